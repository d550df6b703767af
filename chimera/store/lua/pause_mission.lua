#!lua flags=allow-oom
-- Hold a mission: no more claims, at once; results wait in REVIEW. What is under way goes on and is kept.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   operation id: the same again changes nothing
-- ARGV[3]   who pauses
-- ARGV[4]   reason, in words
-- Returns   1 paused, also when it was already · -1 the mission is final · -2 there is no such mission
--- include keys
--- include clock
--- include record
--- include work
--- include operation
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
local status = redis.call("HGET", k.of_mission(mid), "status")
local op, before = operation(k, "pause", mid, ARGV[2])
if before then return before end
if not status then return -2 end
if FINAL_MISSION[status] then return -1 end
if status == "PAUSED" then return conclude(op, 1) end
redis.call("HSET", k.of_mission(mid), "status", "PAUSED", "held_from", status, "reason", ARGV[4],
  "paused_at", int(now))
redis.call("ZREM", k.high, mid)
redis.call("ZREM", k.normal, mid)
note("mission.paused", mid, "", { reason = ARGV[4] })
write_log(k, ARGV[3], now)
wake(k, "missions")
return conclude(op, 1)
