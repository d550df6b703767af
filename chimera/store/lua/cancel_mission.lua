#!lua flags=allow-oom
-- End a mission at its owner's wish: at once for claims, its open tasks follow in the sweep.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   who cancels
-- ARGV[3]   reason, in words
-- Returns   1 cancelled · 0 it was cancelled before · -1 it is final otherwise · -2 there is no such mission
--- include keys
--- include clock
--- include record
--- include work
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
local status = redis.call("HGET", k.of_mission(mid), "status")
if not status then return -2 end
if status == "CANCELLED" then return 0 end
if FINAL_MISSION[status] then return -1 end
redis.call("HSET", k.of_mission(mid), "status", "CANCELLED", "reason", ARGV[3], "finished_at", int(now))
redis.call("ZREM", k.active, mid)
redis.call("ZADD", k.finished, int(now), mid)
redis.call("ZREM", k.high, mid)
redis.call("ZREM", k.normal, mid)
redis.call("SADD", k.sweep, mid)
note("mission.cancelled", mid, "", { reason = ARGV[3] })
write_log(k, ARGV[2], now)
wake(k, "missions")
return 1
