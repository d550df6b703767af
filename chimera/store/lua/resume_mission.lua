#!lua flags=allow-oom
-- Let a paused mission go on; or revive one that failed for want of budget, under a larger one. The tasks that
-- ended with it come back in batches (revive_tasks).
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   operation id: the same again changes nothing
-- ARGV[3]   who resumes
-- ARGV[4]   its new budget (µ$), or "" to keep it
-- Returns   1 it goes on · -1 there is nothing to resume · -2 there is no such mission (any more) ·
--           -3 its deadline has passed · -7 the budget must grow
--- include keys
--- include clock
--- include record
--- include work
--- include operation
--- include revive
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
local v = redis.call("HMGET", k.of_mission(mid), "status", "reason", "budget", "deadline", "held_from", "archived_at")
local status = v[1]
local op, before = operation(k, "resume", mid, ARGV[2])
if before then return before end
if not status or v[6] then return -2 end
local broke = status == "FAILED" and v[2] == "budget_exceeded"
if status ~= "PAUSED" and not broke then return -1 end
if v[4] ~= "" and now >= tonumber(v[4]) then return -3 end
local more = ARGV[4] ~= "" and tonumber(ARGV[4]) > tonumber(v[3])
if (broke or ARGV[4] ~= "") and not more then return -7 end
if more then redis.call("HSET", k.of_mission(mid), "budget", ARGV[4]) end
if broke then
  revive(k, mid, v[4])
else
  local paused_at = tonumber(redis.call("HGET", k.of_mission(mid), "paused_at") or now)
  redis.call("HINCRBY", k.of_mission(mid), "still_us", int(now - paused_at))
  redis.call("HSET", k.of_mission(mid), "status", v[5] == "PLANNING" and "PLANNING" or "RUNNING", "reason", "")
  open_for_claims(k, mid, now)
end
note("mission.resumed", mid, "", { budget = more and tonumber(ARGV[4]) or nil,
  to = redis.call("HGET", k.of_mission(mid), "status") })
mark_dirty(k, mid)
write_counts(k)
ring(k)
write_log(k, ARGV[3], now)
wake(k, "missions")
return conclude(op, 1)
