-- Tasks of workers that are gone go back to work. Idempotent: any replica, any claim.
-- `t` is {status, worker, token, attempt, deaths}.
local RESCUED = { "status", "worker", "token", "attempt", "deaths" }

-- The worker died with this task. Only dying alone among suspects counts towards poison.
local function fall(k, id, t, now, poison_after)
  local mid, worker, deaths = mission_of(id), t[2] or "", tonumber(t[5] or 0)
  -- How many suspects fell together: counted once, when the first of them is found.
  local fell = redis.call("HGET", k.of_worker(worker), "fell")
  if not fell then
    fell = redis.call("ZCARD", k.of_suspects(worker))
    redis.call("HSET", k.of_worker(worker), "fell", fell)
    redis.call("EXPIRE", k.of_worker(worker), 3600)
  end
  local alone = is_suspect(deaths) and tonumber(fell) == 1
  local count = alone and redis.call("HINCRBY", k.of_task(id), "alone", 1) or 0
  redis.call("HINCRBY", k.of_task(id), "deaths", 1)
  -- Should the worker come back with this token, it was no crash after all (lapse.lua).
  redis.call("HSET", k.of_task(id), "fell_with", t[3])
  part(k, worker, id)
  local details = { worker = worker, attempt = tonumber(t[4]), crash = true, alone = alone }
  if count < poison_after then
    return end_attempt(k, id, "PENDING", "task.rescued", "crashes", "", false, 0, details, now)
  end
  redis.call("HINCRBY", k.of_task(id), "crashes", 1)
  tally(mid, "crashes", 1)
  note("task.rescued", mid, id, details)
  redis.call("HDEL", k.of_task(id), "worker")
  move(k, id, mid, "PENDING", "FAILED", "reason", "poisoned", "finished_at", int(now))
  note("task.failed", mid, id, { reason = "poisoned" })
  redis.call("RPUSH", k.fallen, id)
  mark_dirty(k, mid)
end

-- Leases that ran out; at most `most`. None for one lease after the store was out of reach.
local function rescue(k, now, most, poison_after, lease, steady, heard)
  if stalled(k, now, lease, steady, heard) then return -1 end
  local rescued = 0
  local expired = redis.call("ZRANGEBYSCORE", k.leases, "-inf", int(now), "WITHSCORES", "LIMIT", 0, most)
  for i = 1, #expired, 2 do
    local id, expiry = expired[i], tonumber(expired[i + 1])
    local t = redis.call("HMGET", k.of_task(id), unpack(RESCUED))
    local beats_until = tonumber(redis.call("ZSCORE", k.workers, t[2] or "") or 0)
    if t[1] == "PENDING" and beats_until > now and beats_until - expiry < lease / 2 then
      -- Its worker beat after the claim, and before it knew of it: that beat counts for this lease too. Whether the
      -- worker lives is known when it ends.
      redis.call("ZADD", k.leases, int(beats_until), id)
    else
      redis.call("ZREM", k.leases, id)
      if t[1] == "PENDING" then
        if beats_until > now then
          -- A worker that still beats lost this lease alive: that is no crash.
          part(k, t[2], id)
          end_attempt(k, id, "PENDING", "task.rescued", "lapses", "", false, 0,
            { worker = t[2], attempt = tonumber(t[4]), crash = false }, now)
        else
          fall(k, id, t, now, poison_after)
        end
        rescued = rescued + 1
      end
    end
  end
  return rescued
end
