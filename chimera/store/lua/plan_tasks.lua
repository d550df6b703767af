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
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
if not hold_term(k, "orchestrator", tonumber(ARGV[2])) then return -5 end
local m = mission(k, mid)
if not m.status or FINAL_MISSION[m.status] then return -2 end
if m.status == "PAUSED" then return 0 end
local large = redis.call("HGET", k.of_mission(mid), "large") -- its tasks are numbered: see ids.lua
local planned = redis.call("HGET", k.of_mission(mid), "planned")
if planned ~= ARGV[3] then return planned == ARGV[4] and 1 or 0 end
if m.status == "PLANNING" then
  m.status = "RUNNING"
  redis.call("HSET", k.of_mission(mid), "status", "RUNNING")
  note("mission.running", mid, "")
end
local ids, ready = {}, {}
for i = 8, #ARGV, 7 do
  local id = mid .. "." .. ARGV[i]
  redis.call("HSET", k.of_spec(id), "stage", ARGV[i + 1], "input", ARGV[i + 2], "depends_on", ARGV[i + 3],
    "needed_by", ARGV[i + 4], "partial", ARGV[i + 6])
  local waits = tonumber(ARGV[i + 5])
  local status = waits > 0 and "BLOCKED" or "READY"
  redis.call("HSET", k.of_task(id), "status", status, "waits_for", waits, "planned_at", int(now))
  ids[#ids + 1] = id
  if waits == 0 then ready[#ready + 1] = id end
  tally(mid, status, 1)
end
if not large then all("RPUSH", k.of_ids(mid), ids) end
all("RPUSH", k.of_ready(mid), ready)
redis.call("HSET", k.of_mission(mid), "planned", ARGV[4], "planned_all", ARGV[5], "refill", ARGV[7])
note("mission.planned", mid, "", { tasks = #ids, cursor = tonumber(ARGV[4]) })
write_counts(k)
-- Whoever saw work there already need not be told of more.
if #ready > 0 then offer(k, mid, now, #ready) end
ring(k)
write_log(k, ARGV[6], now)
return 1
