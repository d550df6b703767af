#!lua flags=allow-oom
-- Commit verdicts: the only way to ACCEPTED but for a human's. The mission whose last open task ends so ends with it.
-- KEYS[1]   the tenant's root
-- ARGV[1]   judge
-- ARGV[2]   stale results that make a human look
-- ARGV[3..] stride 7: task id, judge token, decision (accept | reject | escalate), confidence, verdict (JSON),
--           feedback, SHA-1 of what was judged: the result, a line feed, the proposed actions
-- Returns   per task, the same again for the same token: 1 committed · -1 the review is lost, or the result is not
--           the one that was judged (a worker may write it) · -4 stale: the mission's state moved on, planned again
--- include keys
--- include clock
--- include record
--- include work
--- include depend
--- include accept
--- include settle
local k = keys(KEYS[1])
local now = now_us()
local out, touched = {}, {}
for i = 3, #ARGV, 7 do
  local id, token, decision = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local t = redis.call("HMGET", k.of_task(id), "status", "judge_token", "judged_token", "version", "attempt", "feedback",
    "judged_as", "result", "actions", "kept", "ready_at", "planned_at")
  if t[3] == token then
    out[#out + 1] = tonumber(t[7])
  elseif t[1] ~= "REVIEW" or t[2] ~= token
    or redis.sha1hex((t[8] or "") .. "\n" .. (t[9] or "")) ~= ARGV[i + 6]
    or redis.call("ZREM", k.judging, id) == 0 then
    out[#out + 1] = -1
  else
    local mid = mission_of(id)
    touched[mid] = true
    if mission(k, mid).version ~= t[4] then
      redis.call("HSET", k.of_task(id), "judged_token", token, "judged_as", -4)
      refuse_stale(k, id, "REVIEW", tonumber(ARGV[2]), now)
      out[#out + 1] = -4
    else
      redis.call("RPUSH", k.of_verdicts(id), ARGV[i + 4])
      took_since("verdict", token, now)
      local details = { attempt = tonumber(t[5]), confidence = tonumber(ARGV[i + 3]) }
      if decision == "accept" then
        note("task.accepted", mid, id, details)
        details.took_ms = accept(k, id, "REVIEW", ARGV[1], ARGV[i + 3], now,
          { result = t[8], attempt = t[5], actions = t[9], version = t[4], kept = t[10],
            ready_at = t[11], planned_at = t[12] },
          "judged_token", token, "judged_as", 1)
      elseif decision == "escalate" then
        move(k, id, mid, "REVIEW", "ESCALATED", "reason", "judge", "judged_token", token, "judged_as", 1)
        redis.call("ZADD", k.inbox, int(now), id)
        note("task.escalated", mid, id, details)
      else
        local feedback = cjson.decode(t[6] or "[]")
        feedback[#feedback + 1] = ARGV[i + 5]
        redis.call("HSET", k.of_task(id), "feedback", cjson.encode(feedback), "judged_token", token, "judged_as", 1)
        end_attempt(k, id, "REVIEW", "task.rejected", "rejections", "rejected", true, 0, details, now)
      end
      out[#out + 1] = 1
    end
  end
end
write_counts(k)
local dirty = false
for mid in pairs(touched) do dirty = settle_or_mark(k, mid, now) or dirty end
ring(k)
write_log(k, ARGV[1], now)
if dirty then wake(k, "missions") end
if queued > 0 then wake(k, "errands") end
return out
