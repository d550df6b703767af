-- The commit: the accepted result, what it unblocks, and what it asked for. Run by the judge's scripts only.
local function release_dependants(k, id, now)
  local needed_by = redis.call("HGET", k.of_spec(id), "needed_by")
  if not needed_by or needed_by == "" then return end
  local mid = mission_of(id)
  for name in string.gmatch(needed_by, "[^ ]+") do
    local other = mid .. "." .. name
    local left = redis.call("HINCRBY", k.of_task(other), "waits_for", -1)
    -- Counted anew before it goes: another of its inputs may have failed, and it was not told yet.
    if left <= 0 and redis.call("HGET", k.of_task(other), "status") == "BLOCKED" then advance(k, other, mid, now) end
  end
end
-- Its proposed actions (a JSON list of texts, each an action's JSON) go to the outbox: the only way in.
-- A worker wrote them, so what it wrote must not be able to break this script half-way.
local MAX_ACTIONS = 100
local queued = 0
local function queue_actions(k, id, mid, proposed, now)
  local read, actions = pcall(cjson.decode, proposed)
  if not read or type(actions) ~= "table" or #actions > MAX_ACTIONS then
    return note("action.failed", mid, id, { answer = "the proposed actions cannot be read" })
  end
  for i, action in ipairs(actions) do
    local name = id .. "/" .. int(i - 1)
    redis.call("HSET", k.of_action(name), "status", "QUEUED", "action", tostring(action), "tries", 0, "queued_at", int(now))
    redis.call("RPUSH", k.of_actions(mid), name)
    redis.call("ZADD", k.outbox, int(now), name)
    note("action.queued", mid, id, { index = i - 1 })
  end
  redis.call("HINCRBY", k.of_outcomes(mid), "QUEUED", #actions)
  redis.call("HSET", k.of_commit(id), "actions", #actions)
  queued = queued + #actions
end
-- How long a task of high priority took, ms (nil: of another), counted with the others of its tenant; too long is an
-- event of its own.
local function tell_time(k, id, mid, now)
  local m = mission(k, mid)
  if not m.slo then return nil end
  local t = redis.call("HMGET", k.of_task(id), "since", "aside")
  local took = own_clock(m, now) - tonumber(t[1] or m.submitted_at) - tonumber(t[2] or 0)
  local ms = math.floor(took / 1000)
  redis.call("HINCRBY", k.slo, "within:" .. bucket_of(ms), 1)
  redis.call("HINCRBY", k.slo, "ms", ms)
  if took > m.slo then
    redis.call("HINCRBY", k.slo, "breaches", 1)
    note("slo.breached", mid, id, { took_ms = ms, slo_ms = math.floor(m.slo / 1000) })
  end
  return ms
end
local progressed = false
-- Returns how long it took, of high priority (ms). `r` has what the task's hash says: result, attempt, actions, version, kept, ready_at, planned_at. Further pairs are written to it.
local function accept(k, id, from, by, confidence, now, r, ...)
  local mid = mission_of(id)
  redis.call("HSET", k.of_commit(id), "result", r.result or "null", "attempt", r.attempt, "by", by,
    "confidence", confidence, "version", r.version or "", "at", int(now))
  move(k, id, mid, from, "ACCEPTED", "finished_at", int(now), ...)
  if r.kept then forget(k, id) end
  if r.actions then queue_actions(k, id, mid, r.actions, now) end
  if not progressed then
    redis.call("SET", k.progress, int(now))
    progressed = true
  end
  local took_ms = tell_time(k, id, mid, now)
  took_since("task:" .. (mission(k, mid).priority or "medium"), r.ready_at or r.planned_at, now)
  redis.call("HDEL", k.of_task(id), "result", "actions", "worker", "judge", "feedback", "since", "aside")
  release_dependants(k, id, now)
  return took_ms
end
