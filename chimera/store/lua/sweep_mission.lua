#!lua flags=allow-oom
-- End the open tasks of a final mission, a bounded batch at a time; resumes where it stopped.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   the orchestrator's term
-- ARGV[3]   most tasks to look at
-- ARGV[4]   who sweeps
-- Returns   {tasks still to look at, tasks cancelled}; or -5 an older term
--- include keys
--- include clock
--- include record
--- include work
--- include term
--- include suspect
--- include ids
-- It may come back before the sweep is through: what stayed in a list would stand there twice. Lists are
-- in the order of ids but for second attempts, so that each is found near the front.
local function leave_queues(k, id, mid, status)
  redis.call("ZREM", k.leases, id)
  redis.call("ZREM", k.inbox, id)
  if status == "READY" and redis.call("ZREM", k.later, id) == 0 then
    redis.call("LREM", k.of_ready(mid), 1, id)
  elseif status == "REVIEW" and redis.call("ZREM", k.judging, id) == 0
    and redis.call("LREM", k.review, 1, id) == 0 then
    redis.call("LREM", k.of_parked(mid), 1, id)
  end
end
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
if not hold_term(k, "orchestrator", tonumber(ARGV[2])) then return -5 end
local m = mission(k, mid)
if not FINAL_MISSION[m.status] then redis.call("SREM", k.sweep, mid); return { 0, 0 } end
local from = tonumber(redis.call("HGET", k.of_mission(mid), "swept") or 0)
local ids = ids_of(k, mid, from, tonumber(ARGV[3]))
local cancelled = 0
for _, id in ipairs(ids) do
  local t = redis.call("HMGET", k.of_task(id), "status", "worker")
  local status = t[1]
  if status and not FINAL_TASK[status] then
    move(k, id, mid, status, "CANCELLED", "reason", "mission_" .. string.lower(m.status), "finished_at", int(now))
    if t[2] then part(k, t[2], id) end
    leave_queues(k, id, mid, status)
    redis.call("HDEL", k.of_task(id), "worker", "judge", "result", "actions", "not_before")
    -- A mission that failed may be resumed, and its tasks with it: what they paid for stays kept, for its time.
    if m.status == "CANCELLED" then forget(k, id) end
    note("task.cancelled", mid, id, { from = status })
    cancelled = cancelled + 1
  end
end
local left = count_ids(k, mid) - from - #ids
redis.call("HSET", k.of_mission(mid), "swept", from + #ids)
if left <= 0 then redis.call("SREM", k.sweep, mid) end
write_counts(k)
write_log(k, ARGV[4], now)
return { math.max(0, left), cancelled }
