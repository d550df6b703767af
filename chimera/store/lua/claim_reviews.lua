#!lua flags=allow-oom
-- A judge takes results to judge, under leases of its own.
-- KEYS[1]   the tenant's root
-- ARGV[1]   judge
-- ARGV[2]   claim id: the same id again gives the same reviews
-- ARGV[3]   lease, µs
-- ARGV[4]   most reviews
-- Returns   {now_us, reviews}; a review is
--           {id, token, attempt, version, mission, stage, input, depends_on, result, judge_errors, actions, round,
--            judged_at_us}
--- include keys
--- include clock
--- include record
--- include work
local k = keys(KEYS[1])
local now = now_us()
local judge, expires = ARGV[1], int(now + tonumber(ARGV[3]))
local out, names, leases = {}, {}, {}
local MATERIAL = { "status", "judge_token", "attempt", "version", "result", "judge_errors", "actions", "round",
  "judged_at" }
local function hand_out(id, token, t, judged_at)
  local s = redis.call("HMGET", k.of_spec(id), "stage", "input", "depends_on")
  out[#out + 1] = { id, token, t[3], t[4], mission_of(id), s[1], s[2], s[3], t[5], t[6] or "0", t[7] or "",
    t[8] or "0", judged_at }
end
local last = redis.call("HMGET", k.of_worker(judge), "claim", "claimed")
if last[1] == ARGV[2] then
  for id, token in string.gmatch(last[2] or "", "([^ ]+)=([^ ]+)") do
    local t = redis.call("HMGET", k.of_task(id), unpack(MATERIAL))
    if t[1] == "REVIEW" and t[2] == token then hand_out(id, token, t, t[9]) end
  end
  return { int(now), out }
end
-- Reviews whose judge fell silent come first: they have waited longest.
local expired = redis.call("ZRANGEBYSCORE", k.judging, "-inf", int(now), "LIMIT", 0, ARGV[4])
for _, id in ipairs(expired) do
  redis.call("ZREM", k.judging, id)
  if redis.call("HGET", k.of_task(id), "status") == "REVIEW" then
    redis.call("LPUSH", k.review, id)
    note("review.rescued", mission_of(id), id)
  end
end
for _, id in ipairs(redis.call("LPOP", k.review, ARGV[4]) or {}) do
  local t = redis.call("HMGET", k.of_task(id), unpack(MATERIAL))
  if t[1] == "REVIEW" and mission(k, mission_of(id)).status == "PAUSED" then
    redis.call("RPUSH", k.of_parked(mission_of(id)), id)
  elseif t[1] == "REVIEW" then
    local token = int(math.max((tonumber(t[2]) or 0) + 1, now))
    redis.call("HSET", k.of_task(id), "judge_token", token, "judge", judge, "judged_at", int(now))
    leases[#leases + 1] = expires
    leases[#leases + 1] = id
    note("review.claimed", mission_of(id), id)
    names[#names + 1] = id .. "=" .. token
    hand_out(id, token, t, int(now))
  end
end
all("ZADD", k.judging, leases)
redis.call("HSET", k.of_worker(judge), "claim", ARGV[2], "claimed", table.concat(names, " "))
redis.call("EXPIRE", k.of_worker(judge), 3600)
write_log(k, judge, now)
return { int(now), out }
