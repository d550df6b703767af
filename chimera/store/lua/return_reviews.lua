#!lua flags=allow-oom
-- The judge could not judge: that is no rejection. Try again, then ask a human.
-- KEYS[1]   the tenant's root
-- ARGV[1]   judge
-- ARGV[2]   failures of judging that make a human look
-- ARGV[3]   the pause before another judge may have it, µs
-- ARGV[4..] stride 4: task id, judge token, 1 when the failure counts (0: it only waits, e.g. for budget), why
-- Returns   per task: 1 back in the queue · 2 escalated · -1 the review is lost
--- include keys
--- include clock
--- include record
--- include work
local k = keys(KEYS[1])
local now = now_us()
local out = {}
for i = 4, #ARGV, 4 do
  local id = ARGV[i]
  local t = redis.call("HMGET", k.of_task(id), "status", "judge_token")
  if t[1] ~= "REVIEW" or t[2] ~= ARGV[i + 1] or redis.call("ZREM", k.judging, id) == 0 then
    out[#out + 1] = -1
  else
    local mid = mission_of(id)
    redis.call("HSET", k.of_task(id), "last_error", ARGV[i + 3])
    local failures = redis.call("HINCRBY", k.of_task(id), "judge_errors", ARGV[i + 2])
    if failures >= tonumber(ARGV[2]) then
      move(k, id, mid, "REVIEW", "ESCALATED", "reason", "judge_failed")
      redis.call("ZADD", k.inbox, int(now), id)
      note("task.escalated", mid, id, { reason = "judge_failed", detail = ARGV[i + 3] })
      mark_dirty(k, mid)
      out[#out + 1] = 2
    else
      -- It is tried again when this short lease runs out: a pause without a timer of its own.
      redis.call("ZADD", k.judging, int(now + tonumber(ARGV[3])), id)
      redis.call("HINCRBY", k.of_task(id), "judge_token", 1)
      note("review.returned", mid, id, { detail = ARGV[i + 3], counted = ARGV[i + 2] == "1" })
      out[#out + 1] = 1
    end
  end
end
write_counts(k)
write_log(k, ARGV[1], now)
wake(k, "missions")
return out
