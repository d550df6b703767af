#!lua flags=allow-oom
-- Let a paused mission go on; or revive one that failed for want of budget, under a larger one. The tasks that
-- ended with it come back in batches (revive_tasks).
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   operation id: the same again changes nothing
-- ARGV[3]   who resumes
-- ARGV[4]   its new budget (µ$), or "" to keep it
-- Returns   1 it goes on · -1 there is nothing to resume · -2 there is no such mission ·
--           -3 its deadline has passed · -7 the budget must grow
--- include keys
--- include clock
--- include record
--- include work
--- include revive
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
local v = redis.call("HMGET", k.of_mission(mid), "status", "resumed", "reason", "budget", "deadline", "held_from")
local status = v[1]
if not status then return -2 end
if v[2] == ARGV[2] then return 1 end
local broke = status == "FAILED" and v[3] == "budget_exceeded"
if status ~= "PAUSED" and not broke then return -1 end
if v[5] ~= "" and now >= tonumber(v[5]) then return -3 end
local more = ARGV[4] ~= "" and tonumber(ARGV[4]) > tonumber(v[4])
if (broke or ARGV[4] ~= "") and not more then return -7 end
if more then redis.call("HSET", k.of_mission(mid), "budget", ARGV[4]) end
redis.call("HSET", k.of_mission(mid), "resumed", ARGV[2])
if broke then
  revive(k, mid, v[5])
else
  redis.call("HSET", k.of_mission(mid), "status", v[6] == "PLANNING" and "PLANNING" or "RUNNING", "reason", "")
  open_for_claims(k, mid, now)
end
note("mission.resumed", mid, "", { budget = more and tonumber(ARGV[4]) or nil })
mark_dirty(k, mid)
write_counts(k)
ring(k)
write_log(k, ARGV[3], now)
wake_hub(k)
return 1
