#!lua
-- Give FAILED tasks a fresh set of attempts. Their mission goes on, and so do tasks that were cancelled for
-- want of them. Verdicts, feedback and what was spent stay.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   operation id: the same again changes nothing
-- ARGV[3]   who redrives
-- ARGV[4..] stride 1: task id
-- Returns   tasks redriven · -1 the mission was cancelled, or failed for its budget or deadline ·
--           -2 there is no such mission (any more) · -3 its deadline has passed
--- include keys
--- include clock
--- include record
--- include work
--- include revive
--- include depend
--- include operation
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
local v = redis.call("HMGET", k.of_mission(mid), "status", "reason", "deadline", "archived_at")
local op, before = operation(k, "redrive", mid, ARGV[2])
if before then return before end
if not v[1] or v[4] then return -2 end
local final = FINAL_MISSION[v[1]]
if v[1] == "CANCELLED" or v[1] == "FAILED" and v[2] ~= "min_accepted" and v[2] ~= "task_failed" then return -1 end
if v[3] ~= "" and now >= tonumber(v[3]) then return -3 end
-- Those that wait for it count it again; those that were cancelled for want of it come back, and so on from them.
local function wait_again(first)
  local back = { first }
  while #back > 0 do
    local needed_by = redis.call("HGET", k.of_spec(table.remove(back)), "needed_by") or ""
    for name in string.gmatch(needed_by, "[^ ]+") do
      local other = mid .. "." .. name
      local t = redis.call("HMGET", k.of_task(other), "status", "reason")
      local forsaken = t[1] == "CANCELLED" and t[2] == "upstream_failed"
      if (t[1] == "BLOCKED" or forsaken) and outlook(k, other, mid) ~= "lost" and forsaken then
        redis.call("HDEL", k.of_task(other), "reason", "finished_at")
        note("task.revived", mid, other, { to = "BLOCKED" })
        move(k, other, mid, "CANCELLED", "BLOCKED")
        back[#back + 1] = other
      end
    end
  end
end
local redriven = 0
for i = 4, #ARGV, 1 do
  local id = ARGV[i]
  if mission_of(id) == mid and redis.call("HGET", k.of_task(id), "status") == "FAILED" then
    if final and redriven == 0 then
      revive(k, mid, v[3])
      note("mission.running", mid, "")
    end
    redis.call("HDEL", k.of_task(id), "used", "deaths", "alone", "stale", "judge_errors", "reason", "finished_at")
    redis.call("HINCRBY", k.of_task(id), "round", 1)
    note("task.redriven", mid, id)
    move(k, id, mid, "FAILED", "READY")
    make_ready(k, id, mid, now, false)
    wait_again(id)
    redriven = redriven + 1
  end
end
mark_dirty(k, mid)
write_counts(k)
ring(k)
write_log(k, ARGV[3], now)
wake(k, "missions")
return conclude(op, redriven)
