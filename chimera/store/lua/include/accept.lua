-- The commit: the accepted result, and what it unblocks. Run by the judge's scripts only.
local function release_dependants(k, id, now)
  local needed_by = redis.call("HGET", k.of_spec(id), "needed_by")
  if not needed_by or needed_by == "" then return end
  local mid = mission_of(id)
  for name in string.gmatch(needed_by, "[^ ]+") do
    local other = mid .. "." .. name
    local left = redis.call("HINCRBY", k.of_task(other), "waits_for", -1)
    if left == 0 and redis.call("HGET", k.of_task(other), "status") == "BLOCKED" then
      move(k, other, mid, "BLOCKED", "READY")
      note("task.unblocked", mid, other)
      make_ready(k, other, mid, now, true)
    end
  end
end
local function accept(k, id, from, by, confidence, now)
  local mid = mission_of(id)
  local t = redis.call("HMGET", k.of_task(id), "result", "attempt")
  redis.call("HSET", k.of_commit(id), "result", t[1] or "null", "attempt", t[2], "by", by,
    "confidence", confidence, "at", int(now))
  move(k, id, mid, from, "ACCEPTED", "finished_at", int(now))
  redis.call("HDEL", k.of_task(id), "result", "worker", "expires", "judge", "feedback")
  release_dependants(k, id, now)
end
-- After verdicts: the hub need only look when a mission may be over, or has room for more tasks.
local function mark_if_idle(k, mid)
  local c = redis.call("HMGET", k.of_counts(mid), "BLOCKED", "READY", "PENDING", "REVIEW")
  local busy = 0
  for i = 1, 4 do busy = busy + tonumber(c[i] or 0) end
  local m = mission(k, mid)
  if busy == 0 or not m.planned_all or m.status == "WAITING_REVIEW" then mark_dirty(k, mid); return true end
  return false
end
