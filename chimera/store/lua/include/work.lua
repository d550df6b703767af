-- Moving tasks: counters, ready lists, bells. Every status change goes through move(), whose pairs of
-- literals a test checks against core.task.TRANSITIONS.
local tallies = {} -- mission -> field -> change, written once by write_counts()
local woken = 0    -- tasks that became claimable in this call
local function tally(mission, field, change)
  local t = tallies[mission]
  if not t then t = {}; tallies[mission] = t end
  t[field] = (t[field] or 0) + change
end
local OPEN = { BLOCKED = true, READY = true, PENDING = true, REVIEW = true }
-- One command with however many arguments, in pieces that Lua can unpack. Pairs stay together.
local function all(command, key, args)
  for i = 1, #args, 1000 do redis.call(command, key, unpack(args, i, math.min(i + 999, #args))) end
end
local function mission_of(task_id) return string.match(task_id, "^([^.]+)%.") end

local missions = {} -- read once a call
local function mission(k, id)
  local m = missions[id]
  if not m then
    local v = redis.call("HMGET", k.of_mission(id), "status", "state_version", "priority", "timeout_us",
      "max_attempts", "planned_all", "slo_us", "submitted_at", "still_us", "paused_at", "refill")
    m = { status = v[1], version = v[2], priority = v[3], timeout_us = tonumber(v[4] or 0),
          max_attempts = tonumber(v[5] or 1), planned_all = v[6] == "1", slo = tonumber(v[7] or nil),
          submitted_at = tonumber(v[8] or 0), still = tonumber(v[9] or 0), paused_at = tonumber(v[10] or 0),
          refill = tonumber(v[11] or nil) }
    missions[id] = m
  end
  return m
end
local function write_counts(k)
  local open, ready = 0, {}
  for mid, fields in pairs(tallies) do
    for field, change in pairs(fields) do
      if change ~= 0 then redis.call("HINCRBY", k.of_counts(mid), field, change) end
      if OPEN[field] then open = open + change end
      if field == "READY" and change ~= 0 then
        local priority = mission(k, mid).priority or "medium"
        ready[priority] = (ready[priority] or 0) + change
      end
    end
  end
  for priority, change in pairs(ready) do
    if change ~= 0 then redis.call("HINCRBY", k.depth, priority, change) end
  end
  if open ~= 0 and redis.call("INCRBY", k.open, int(open)) == 0 then
    redis.call("HSET", k.depth, "high", 0, "medium", 0, "low", 0) -- nothing is READY, whatever was counted
  end
  tallies = {}
end
local FINAL_MISSION = { COMPLETED = true, FAILED = true, CANCELLED = true }
local FINAL_TASK = { ACCEPTED = true, FAILED = true, CANCELLED = true }

-- Medium passes low by this much waiting; low passes newer medium after it. High has its own set.
local MEDIUM_BONUS_US = 30000000
local function rank(m, now) return m.priority == "medium" and now - MEDIUM_BONUS_US or now end

-- A task's round is over: no re-run will ask for the replies kept for it. They are the governor's to remove.
local function forget(k, id)
  if redis.call("HDEL", k.of_task(id), "kept") == 0 then return end
  local round = redis.call("HGET", k.of_task(id), "round") or "0"
  redis.call("RPUSH", k.requests, cjson.encode({ ["do"] = "forget", task = id, round = round }))
end

-- Time to acceptance of high priority. A mission has a clock of its own, that stands still while it is paused or over.
-- A task's time runs on it from the submit, or from when it could begin or was redriven, if that is later; what it
-- waits for a human does not count.
local function own_clock(m, now)
  return (m.status == "PAUSED" and m.paused_at or now) - m.still
end
local function keep_time(k, id, mid, from, to)
  local m = mission(k, mid)
  if not m.slo then return end
  local clock = own_clock(m, now_us())
  if to == "ESCALATED" then
    redis.call("HSET", k.of_task(id), "asked", int(clock))
  elseif from == "ESCALATED" then
    local asked = redis.call("HGET", k.of_task(id), "asked")
    redis.call("HINCRBY", k.of_task(id), "aside", int(clock - tonumber(asked or clock)))
    redis.call("HDEL", k.of_task(id), "asked")
  else
    redis.call("HSET", k.of_task(id), "since", int(clock))
    redis.call("HDEL", k.of_task(id), "aside")
  end
end
local BEGINS = { BLOCKED = true, FAILED = true }
local COMES_BACK = { BLOCKED = true, FAILED = true, CANCELLED = true } -- it is ready from then on

-- The only place where a task's status is written after its birth.
local function move(k, task_id, mission_id, from, to, ...)
  if to == "READY" and COMES_BACK[from] then
    redis.call("HSET", k.of_task(task_id), "status", to, "ready_at", int(now_us()), ...)
  else
    redis.call("HSET", k.of_task(task_id), "status", to, ...)
  end
  if to == "FAILED" then forget(k, task_id) end
  if to == "ESCALATED" or from == "ESCALATED" or (to == "READY" and BEGINS[from]) then
    keep_time(k, task_id, mission_id, from, to)
  end
  tally(mission_id, from, -1)
  tally(mission_id, to, 1)
end

-- Workers find a mission's READY tasks, so many more of them. Returns whether they found none before.
local function offer(k, mission_id, now, count)
  local m = mission(k, mission_id)
  if m.status ~= "RUNNING" and m.status ~= "WAITING_REVIEW" then return false end
  woken = woken + count
  return redis.call("ZADD", m.priority == "high" and k.high or k.normal, "NX", int(rank(m, now)), mission_id) == 1
end
-- Put a READY task where workers find it: at the tail, or at the head for another attempt.
local function make_ready(k, task_id, mission_id, now, first)
  redis.call(first and "LPUSH" or "RPUSH", k.of_ready(mission_id), task_id)
  offer(k, mission_id, now, 1)
end
local function make_ready_later(k, task_id, at)
  redis.call("HSET", k.of_task(task_id), "not_before", int(at))
  redis.call("ZADD", k.later, int(at), task_id)
end

-- Whose work changed: that of who looks at "missions", "reviews", "errands" (actions) or "load" (workers).
local function wake(k, whom) redis.call("PUBLISH", "chimera:" .. whom .. ":" .. k.tenant, "") end

-- Wake as many workers as there is work for, never more than there are; without any, who starts them.
local function ring(k)
  if woken == 0 then return end
  local workers = redis.call("ZCARD", k.workers)
  if workers == 0 then return wake(k, "load") end
  local waiting = redis.call("LLEN", k.bell)
  for _ = waiting + 1, math.min(workers, waiting + woken) do redis.call("RPUSH", k.bell, "1") end
end
-- The hub looks at a mission when something there may end it, unblock it or want more planning.
local function mark_dirty(k, mission_id) redis.call("SADD", k.dirty, mission_id) end

-- Promote READY tasks whose not-before has come; at most `most`.
local function promote(k, now, most)
  local due = redis.call("ZRANGEBYSCORE", k.later, "-inf", int(now), "LIMIT", 0, most)
  for _, id in ipairs(due) do
    redis.call("ZREM", k.later, id)
    redis.call("HDEL", k.of_task(id), "not_before")
    if redis.call("HGET", k.of_task(id), "status") == "READY" then
      make_ready(k, id, mission_of(id), now, true)
    end
  end
  return #due
end

-- An attempt ended without a result that counts. `count` = it uses up one of max_attempts.
local function end_attempt(k, id, from, kind, field, reason, count, delay_us, details, now)
  local mid = mission_of(id)
  local m = mission(k, mid)
  local used = redis.call("HINCRBY", k.of_task(id), "used", count and 1 or 0)
  if field then
    redis.call("HINCRBY", k.of_task(id), field, 1)
    tally(mid, field, 1)
  end
  redis.call("HDEL", k.of_task(id), "worker", "result", "actions", "judge")
  if field == "rejections" then
    -- The next attempts are another round: they sample anew.
    forget(k, id)
    redis.call("HINCRBY", k.of_task(id), "round", 1)
  end
  note(kind, mid, id, details)
  if count and used >= m.max_attempts then
    move(k, id, mid, from, "FAILED", "reason", reason, "finished_at", int(now))
    note("task.failed", mid, id, { reason = reason })
    redis.call("RPUSH", k.fallen, id)
    mark_dirty(k, mid)
    return "FAILED"
  end
  move(k, id, mid, from, "READY")
  if delay_us > 0 then make_ready_later(k, id, now + delay_us) else make_ready(k, id, mid, now, true) end
  return "READY"
end

-- A result made under an older state: plan it again, or ask a human when the state churns.
local function refuse_stale(k, id, from, max_stale, now)
  local mid = mission_of(id)
  local stale = redis.call("HINCRBY", k.of_task(id), "stale", 1)
  tally(mid, "stale", 1)
  if stale >= max_stale and from ~= "ESCALATED" then
    note("task.stale", mid, id, { stale = stale })
    move(k, id, mid, from, "ESCALATED", "reason", "state_churn")
    redis.call("ZADD", k.inbox, int(now), id)
    note("task.escalated", mid, id, { reason = "state_churn" })
    mark_dirty(k, mid)
    return
  end
  end_attempt(k, id, from, "task.stale", nil, "", false, 0, { stale = stale }, now)
end
