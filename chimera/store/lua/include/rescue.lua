-- Leases that ran out go back to work; at most `most` of each kind. Idempotent: any replica, any claim.
local function rescue(k, now, most, max_crashes)
  local rescued = 0
  local expired = redis.call("ZRANGEBYSCORE", k.leases, "-inf", int(now), "LIMIT", 0, most)
  for _, id in ipairs(expired) do
    redis.call("ZREM", k.leases, id)
    local t = redis.call("HMGET", k.of_task(id), "status", "worker", "token", "attempt")
    if t[1] == "PENDING" then
      local mid = mission_of(id)
      -- A worker that still beats lost this lease alive: that is no crash.
      local beats = tonumber(redis.call("ZSCORE", k.workers, t[2] or "") or 0) > now
      local details = { worker = t[2], attempt = tonumber(t[4]), crash = not beats }
      if beats then
        end_attempt(k, id, "PENDING", "task.rescued", "lapses", "", false, 0, details, now)
      else
        local crashes = tonumber(redis.call("HGET", k.of_task(id), "crashes") or 0) + 1
        if crashes >= max_crashes then
          redis.call("HINCRBY", k.of_task(id), "crashes", 1)
          tally(mid, "crashes", 1)
          note("task.rescued", mid, id, details)
          move(k, id, mid, "PENDING", "FAILED", "reason", "poisoned")
          note("task.failed", mid, id, { reason = "poisoned" })
          redis.call("RPUSH", k.fallen, id)
          mark_dirty(k, mid)
        else
          end_attempt(k, id, "PENDING", "task.rescued", "crashes", "", false, 0, details, now)
        end
      end
      rescued = rescued + 1
    end
  end
  return rescued
end
