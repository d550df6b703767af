#!lua flags=allow-oom
-- The fleet controller wants another number of workers for the tenant: for the record.
-- KEYS[1]   the tenant's root
-- ARGV[1]   term of the orchestrator
-- ARGV[2]   who says so
-- ARGV[3]   workers it wants now
-- ARGV[4]   why: details (JSON)
-- Returns   1 it is recorded · 0 it wanted as many before · -5 a newer leader acts
--- include keys
--- include clock
--- include record
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
local before = redis.call("GET", k.wanted) or "0"
if before == ARGV[3] then return 0 end
redis.call("SET", k.wanted, ARGV[3])
local details = cjson.decode(ARGV[4])
details.before, details.workers = tonumber(before), tonumber(ARGV[3])
note("fleet.scaled", "", "", details)
local now = now_us()
write_log(k, ARGV[2], now)
-- The recorder's stream is long, and what stands here is looked at every second.
local MOST = 50
details.at = int(now)
redis.call("LPUSH", k.scaled, cjson.encode(details))
redis.call("LTRIM", k.scaled, 0, MOST - 1)
return 1
