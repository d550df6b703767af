#!lua flags=allow-oom
-- What came of a canary: a reservation that must be refused. One that was granted is a failure, which stands until a
-- person clears it, whatever comes after.
-- KEYS[1]   the canary's record
-- ARGV[1]   the governor's term
-- ARGV[2]   its id
-- ARGV[3]   what came of it: refused | granted | silent | odd
-- ARGV[4]   in words
-- Returns   the id of the failure that stands, "" for none; or -5 an older term
--- include clock
local now = now_us()
local record = KEYS[1]
local seen = redis.call("HMGET", record, "term", "failure")
if tonumber(ARGV[1]) < tonumber(seen[1] or 0) then return -5 end
redis.call("HSET", record, "term", ARGV[1], "said", ARGV[3], "detail", ARGV[4], "at", int(now))
if ARGV[3] == "refused" then redis.call("HSET", record, "proven", int(now)) end
if ARGV[3] == "granted" and (seen[2] or "") == "" then
  redis.call("HSET", record, "failure", ARGV[2], "failed", int(now))
  return ARGV[2]
end
return seen[2] or ""
