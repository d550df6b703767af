#!lua flags=allow-oom
-- A judge keeps its reviews while it judges.
-- KEYS[1]   the tenant's root
-- ARGV[1]   lease, µs
-- ARGV[2..] stride 2: task id, judge token
-- Returns   per review: 1 renewed · -1 lost
--- include keys
--- include clock
local k = keys(KEYS[1])
local expires = int(now_us() + tonumber(ARGV[1]))
local out = {}
for i = 2, #ARGV, 2 do
  local t = redis.call("HMGET", k.of_task(ARGV[i]), "status", "judge_token")
  if t[1] == "REVIEW" and t[2] == ARGV[i + 1] and redis.call("ZSCORE", k.judging, ARGV[i]) then
    redis.call("ZADD", k.judging, expires, ARGV[i])
    out[#out + 1] = 1
  else
    out[#out + 1] = -1
  end
end
return out
