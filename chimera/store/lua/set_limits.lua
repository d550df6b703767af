#!lua flags=allow-oom
-- Set the tenant's limits: exactly those given stand afterwards. A lowered limit binds new grants.
-- KEYS[1]   the tenant's root
-- ARGV[1]   who sets
-- ARGV[2..] stride 2: window, limit (µ$)
-- Returns   1
--- include keys
--- include clock
--- include record
local k = keys(KEYS[1])
local details, same = {}, redis.call("HLEN", k.limits) == (#ARGV - 1) / 2
for i = 2, #ARGV, 2 do
  details[ARGV[i]] = tonumber(ARGV[i + 1])
  same = same and redis.call("HGET", k.limits, ARGV[i]) == ARGV[i + 1]
end
if same then return 1 end
redis.call("DEL", k.limits)
for i = 2, #ARGV, 2 do redis.call("HSET", k.limits, ARGV[i], ARGV[i + 1]) end
note("limits.set", "", "", details)
write_log(k, ARGV[1], now_us())
return 1
