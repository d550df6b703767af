#!lua flags=allow-oom
-- A courier takes actions that are due, and those whose courier fell silent, under leases.
-- KEYS[1]   the tenant's root
-- ARGV[1]   courier
-- ARGV[2]   claim id: the same id again gives the same actions
-- ARGV[3]   lease, µs: a whole try and its report fit in
-- ARGV[4]   most actions
-- ARGV[5]   after the store was out of reach, no lease counts as run out for this long, µs
-- Returns   {now_us, actions}; an action is {id, token, expires_us, tries so far, action (JSON)}
--- include keys
--- include clock
--- include record
--- include work
--- include pulse
--- include outbox
local k = keys(KEYS[1])
local now = now_us()
local courier, expires = ARGV[1], int(now + tonumber(ARGV[3]))
local out, names = {}, {}
local last = redis.call("HMGET", k.of_worker(courier), "claim", "claimed")
if last[1] == ARGV[2] then
  for id, token in string.gmatch(last[2] or "", "([^ ]+)=([^ ]+)") do
    local a = redis.call("HMGET", k.of_action(id), "courier", "token", "tries", "action")
    if a[1] == courier and a[2] == token then
      out[#out + 1] = { id, token, redis.call("ZSCORE", k.outbox, id), a[3], a[4] }
    end
  end
  return { int(now), out }
end
local due = redis.call("ZRANGEBYSCORE", k.outbox, "-inf", int(now), "LIMIT", 0, ARGV[4])
if #due == 0 then return { int(now), out } end
local grace = stalled(k, now, tonumber(ARGV[5]))
for _, id in ipairs(due) do
  local a = redis.call("HMGET", k.of_action(id), "courier", "token", "tries", "action")
  -- A courier that was only cut off from the store still has to say what it sent.
  if not (a[1] and grace) then
    local token = int(math.max((tonumber(a[2]) or 0) + 1, now))
    redis.call("HSET", k.of_action(id), "courier", courier, "token", token)
    if a[1] then redis.call("HINCRBY", k.of_action(id), "lapses", 1) end
    redis.call("ZADD", k.outbox, expires, id)
    local task, index = parts_of(id)
    note("action.claimed", mission_of(id), task, { index = index, lapsed = a[1] and true or nil })
    names[#names + 1] = id .. "=" .. token
    out[#out + 1] = { id, token, expires, a[3], a[4] }
  end
end
redis.call("HSET", k.of_worker(courier), "claim", ARGV[2], "claimed", table.concat(names, " "))
redis.call("EXPIRE", k.of_worker(courier), 3600)
write_log(k, courier, now)
return { int(now), out }
