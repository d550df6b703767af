#!lua flags=allow-oom
-- What a tenant spent lately, and where its brake stands. The governor's look also takes off what is too old to count,
-- and joins what has left the short window: the long one is counted in some thirty parts.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term; "" for whoever only looks
-- ARGV[2]   the short window, s
-- ARGV[3]   the long window, s
-- What was settled in the same 5 s as an acceptance or a thaw counts as before it.
-- Returns   {now, settled in the short window, in the long one, settled for tasks in the long one since the last
--           acceptance, when that began (0: there is none), settled for tasks in the short one, notices that wait,
--           {the brake's fields and values}, {the limits' fields and values}}; or -5 an older term
--- include keys
--- include clock
--- include term
local k = keys(KEYS[1])
local now = now_us()
if ARGV[1] ~= "" and not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local brake, spans = redis.call("HGETALL", k.brake), redis.call("HGETALL", k.burn)
if #spans == 0 and #brake == 0 then return { int(now), 0, 0, 0, 0, 0, 0, {}, {} } end
local from = tonumber(redis.call("HGET", k.brake, "counted_from") or 0)
local accepted = tonumber(redis.call("GET", k.progress) or 0)
local short, long = now - tonumber(ARGV[2]) * 1000000, now - tonumber(ARGV[3]) * 1000000
local part = math.max(1, math.floor(tonumber(ARGV[3]) / 150)) -- of the long window, in spans of 5 s
local in_short, in_long, unaccepted, since, busy, old, joined = 0, 0, 0, 0, 0, {}, {}
for n = 1, #spans, 2 do
  local span, of_tasks = string.match(spans[n], "^(%d+)(:?t?)$")
  local at, spent = tonumber(span) * 5000000, tonumber(spans[n + 1])
  if at < long then
    old[#old + 1] = spans[n]
  elseif at < short and span % part > 0 then
    old[#old + 1] = spans[n]
    local into = int(span - span % part) .. of_tasks
    joined[into] = (joined[into] or 0) + spent
  end
  if at >= long and at > from then
    if of_tasks == "" then
      in_long = in_long + spent
      if at >= short then in_short = in_short + spent end
    else
      if at >= short then busy = busy + spent end
      if at > accepted then
        unaccepted = unaccepted + spent
        if spent > 0 and (since == 0 or at < since) then since = at end
      end
    end
  end
end
if ARGV[1] ~= "" then
  for into, spent in pairs(joined) do redis.call("HINCRBY", k.burn, into, int(spent)) end
  for n = 1, #old, 1000 do redis.call("HDEL", k.burn, unpack(old, n, math.min(n + 999, #old))) end
end
return { int(now), int(in_short), int(in_long), int(unaccepted), int(since), int(busy), redis.call("LLEN", k.notices),
  brake, redis.call("HGETALL", k.limits) }
