#!lua
-- Make a window of a mission's tasks; the first window sets it RUNNING.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   the planner's term
-- ARGV[3]   cursor this window starts from: refused unless the mission stands there
-- ARGV[4]   cursor after it
-- ARGV[5]   1 when the mission is then wholly planned, else 0
-- ARGV[6]   who plans
-- ARGV[7]   the hub looks again when no more of its tasks than this are unfinished
-- ARGV[8..] stride 7: name, stage, input (JSON or ""), depends_on, needed_by (names, space between),
--           waits_for, partial (0/1)
-- Returns   1 planned, also when it was just before · 0 it stands elsewhere, or is paused · -5 an older term · -2 the mission is final
--- include keys
--- include clock
--- include record
--- include work
--- include term
--- include plan
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
if not hold_term(k, "orchestrator", tonumber(ARGV[2])) then return -5 end
local m = mission(k, mid)
if not m.status or FINAL_MISSION[m.status] then return -2 end
if m.status == "PAUSED" then return 0 end
local stands = redis.call("HMGET", k.of_mission(mid), "large", "planned")
if stands[2] ~= ARGV[3] then return stands[2] == ARGV[4] and 1 or 0 end
for i = 8, #ARGV, 7 do birth(k, mid, now, unpack(ARGV, i, i + 6)) end
begin(k, mid, now, stands[1], ARGV[4], ARGV[5], ARGV[7])
write_log(k, ARGV[6], now)
return 1
