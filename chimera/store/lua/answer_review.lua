#!lua flags=allow-oom
-- A human's answer to an escalated task, consumed in the same step as the resume.
-- KEYS[1]   the tenant's root
-- ARGV[1]   task id
-- ARGV[2]   operation id: the same again changes nothing
-- ARGV[3]   approve | reject
-- ARGV[4]   who answers
-- ARGV[5]   comment: a rejection's feedback to the next attempt
-- ARGV[6]   verdict (JSON)
-- ARGV[7]   stale results that make a human look
-- Returns   the same again for the same operation: 1 done · -1 it does not wait for a human ·
--           -4 stale: the mission's state moved on, planned again · -6 approve: there is no result to accept
--- include keys
--- include clock
--- include record
--- include work
--- include depend
--- include accept
--- include operation
local k = keys(KEYS[1])
local now = now_us()
local id = ARGV[1]
local mid = mission_of(id) or ""
local t = redis.call("HMGET", k.of_task(id), "status", "version", "feedback", "result", "attempt", "actions", "kept",
  "ready_at", "planned_at")
local op, before = operation(k, "answer", id, ARGV[2])
if before then return before end
if t[1] ~= "ESCALATED" then return -1 end
if ARGV[3] == "approve" and not t[4] then return -6 end
redis.call("ZREM", k.inbox, id)
local code = 1
if ARGV[3] == "approve" and mission(k, mid).version ~= t[2] then
  refuse_stale(k, id, "ESCALATED", tonumber(ARGV[7]), now)
  code = -4
else
  redis.call("RPUSH", k.of_verdicts(id), ARGV[6])
  if ARGV[3] == "approve" then
    local details = { comment = ARGV[5] }
    note("task.approved", mid, id, details)
    details.took_ms = accept(k, id, "ESCALATED", ARGV[4], "1", now,
      { result = t[4], attempt = t[5], actions = t[6], version = t[2], kept = t[7], ready_at = t[8],
        planned_at = t[9] })
  else
    if ARGV[5] ~= "" then
      local feedback = cjson.decode(t[3] or "[]")
      feedback[#feedback + 1] = ARGV[5]
      redis.call("HSET", k.of_task(id), "feedback", cjson.encode(feedback))
    end
    redis.call("HSET", k.of_task(id), "judge_errors", 0)
    end_attempt(k, id, "ESCALATED", "task.declined", "rejections", "rejected", true, 0, { comment = ARGV[5] }, now)
  end
end
mark_dirty(k, mid)
write_counts(k)
ring(k)
write_log(k, ARGV[4], now)
wake(k, "missions")
if queued > 0 then wake(k, "errands") end
return conclude(op, code)
