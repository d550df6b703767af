#!lua flags=allow-oom
-- Whoever keeps a tenant's workers wants another number of them: for the record. That is the hub's fleet controller, or
-- the tenant's spoke.
-- KEYS[1]   the tenant's root
-- ARGV[1]   term of the role
-- ARGV[2]   who says so
-- ARGV[3]   workers it wants now
-- ARGV[4]   why: details (JSON)
-- ARGV[5]   role: orchestrator | spoke
-- Returns   1 it is recorded · 0 it wanted as many before · -5 a newer leader acts · -12 they are the other's to keep
--- include keys
--- include clock
--- include record
--- include term
local k = keys(KEYS[1])
local now = now_us()
local asked = redis.call("HGET", k.quota, "spoke") == "1"
local kept = redis.call("HMGET", k.spoke, "term", "until")
if ARGV[5] == "spoke" then
  if not asked then return -12 end
  if tonumber(kept[1] or 0) ~= tonumber(ARGV[1]) then return -5 end
else
  if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
  if asked and tonumber(kept[2] or 0) > now then return -12 end
end
local before = redis.call("GET", k.wanted) or "0"
if before == ARGV[3] then return 0 end
redis.call("SET", k.wanted, ARGV[3])
local details = cjson.decode(ARGV[4])
details.before, details.workers = tonumber(before), tonumber(ARGV[3])
note("fleet.scaled", "", "", details)
write_log(k, ARGV[2], now)
-- The recorder's stream is long, and what stands here is looked at every second.
local MOST = 50
details.at = int(now)
redis.call("LPUSH", k.scaled, cjson.encode(details))
redis.call("LTRIM", k.scaled, 0, MOST - 1)
return 1
