-- How a mission stands by its tasks: is it over, does it wait for a human, is it under way again? Run by the leader's
-- look at it, and by verdicts. Call it once the counters are written.
-- Returns its status, and whether it is wholly planned; nil when there is no such mission.
local function settle(k, mid, now)
  local v = redis.call("HMGET", k.of_mission(mid), "status", "deadline", "on_task_failure", "min_accepted", "planned_all",
    "budget")
  local status = v[1]
  if not status then return nil end
  if FINAL_MISSION[status] then return status, true end
  local c = redis.call("HMGET", k.of_counts(mid), "BLOCKED", "READY", "PENDING", "REVIEW", "ESCALATED", "ACCEPTED", "FAILED")
  local n = {}
  for i = 1, 7 do n[i] = tonumber(c[i] or 0) end
  local blocked, busy, waiting, accepted, failed = n[1], n[2] + n[3] + n[4], n[5], n[6], n[7]
  -- A failure still to be passed on moves those that wait for it.
  if blocked > 0 and redis.call("LLEN", k.fallen) > 0 then busy = busy + 1 end
  -- Tasks that ended with it are still to come back: it is not over.
  if redis.call("SISMEMBER", k.revive, mid) == 1 then busy = busy + 1 end
  local open = busy + waiting + blocked > 0
  local to, reason = status, ""
  if v[2] ~= "" and now >= tonumber(v[2]) then
    to, reason = "FAILED", "deadline"
  elseif status == "PAUSED" then
    -- It stays so until it is resumed: only time does not stop.
  elseif redis.call("HGET", k.of_spend(mid), "exhausted") == v[6] then
    to, reason = "FAILED", "budget_exceeded"
  elseif v[3] == "stop" and failed > 0 then
    to, reason = "FAILED", "task_failed"
  elseif v[5] == "1" and busy == 0 and waiting == 0 and blocked == 0 then
    if accepted >= tonumber(v[4]) then to = "COMPLETED" else to, reason = "FAILED", "min_accepted" end
  elseif v[5] == "1" and busy == 0 and status == "RUNNING" then
    -- Those that are BLOCKED wait for it too.
    to = "WAITING_REVIEW"
  elseif busy > 0 and status == "WAITING_REVIEW" then
    to = "RUNNING"
  end
  if to ~= status then
    redis.call("HSET", k.of_mission(mid), "status", to, "reason", reason)
    if FINAL_MISSION[to] then
      redis.call("HSET", k.of_mission(mid), "finished_at", int(now))
      redis.call("ZREM", k.active, mid)
      redis.call("ZADD", k.finished, int(now), mid)
      redis.call("ZREM", k.high, mid)
      redis.call("ZREM", k.normal, mid)
      if open then redis.call("SADD", k.sweep, mid) end
    end
    note("mission." .. string.lower(to), mid, "", { reason = reason, accepted = accepted, failed = failed })
    missions[mid] = nil
  end
  return to, v[5] == "1"
end
-- After verdicts: a mission of which nothing is open ends here. Else the hub need only look when it may be over, wait
-- for a human, or has room for a good many more tasks. Returns whether it is to look.
local function settle_or_mark(k, mid, now)
  local c = redis.call("HMGET", k.of_counts(mid), "READY", "PENDING", "REVIEW", "BLOCKED", "ESCALATED")
  for i = 1, 5 do c[i] = tonumber(c[i] or 0) end
  local busy, blocked, waiting = c[1] + c[2] + c[3], c[4], c[5]
  local m = mission(k, mid)
  if busy + blocked + waiting == 0 and m.planned_all and FINAL_MISSION[settle(k, mid, now)] then return false end
  local hungry = not m.planned_all and (not m.refill or busy + blocked <= m.refill)
  if busy == 0 or hungry or m.status == "WAITING_REVIEW" then mark_dirty(k, mid); return true end
  return false
end
