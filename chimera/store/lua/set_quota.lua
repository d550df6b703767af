#!lua flags=allow-oom
-- Change what a tenant may have at most. What is not named stays; a lowered bound takes nothing back.
-- KEYS[1]   the tenant's root
-- ARGV[1]   operation id: the same again changes nothing
-- ARGV[2]   who sets
-- ARGV[3]   why, in words, or ""
-- ARGV[4..] stride 2: field of the quota, value; "" for the fleet's default
-- Returns   1
--- include keys
--- include clock
--- include record
--- include operation
local k = keys(KEYS[1])
local op, before = operation(k, "quota", "", ARGV[1])
if before then return before end
local details = { reason = ARGV[3] ~= "" and ARGV[3] or nil }
for i = 4, #ARGV, 2 do
  details[ARGV[i]] = tonumber(ARGV[i + 1]) or "default"
  if ARGV[i + 1] == "" then redis.call("HDEL", k.quota, ARGV[i])
  else redis.call("HSET", k.quota, ARGV[i], ARGV[i + 1]) end
end
note("quota.set", "", "", details)
write_log(k, ARGV[2], now_us())
return conclude(op, 1)
