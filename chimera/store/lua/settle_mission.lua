#!lua flags=allow-oom
-- Look at one mission: is it over, does it wait for a human, is it under way again?
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   the orchestrator's term
-- ARGV[3]   who looks
-- Returns   {the mission's status, wholly planned (0/1)}; or -5 an older term, or -2 there is no such mission
--- include keys
--- include clock
--- include record
--- include work
--- include term
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
if not hold_term(k, "orchestrator", tonumber(ARGV[2])) then return -5 end
local v = redis.call("HMGET", k.of_mission(mid), "status", "deadline", "on_task_failure", "min_accepted", "planned_all",
  "budget")
local status = v[1]
if not status then return -2 end
if FINAL_MISSION[status] then return { status, 1 } end
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
  write_log(k, ARGV[3], now)
end
return { to, v[5] == "1" and 1 or 0 }
