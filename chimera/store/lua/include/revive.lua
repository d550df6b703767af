-- A mission comes back: from a pause, or from its end.
-- Its READY tasks may be claimed, its results judged; unless it was paused, or ended, meanwhile. Bounded by the tasks kept in Redis (CHIMERA_PLAN_WINDOW).
local function open_for_claims(k, mid, now)
  missions[mid] = nil
  local m = mission(k, mid)
  if m.status ~= "RUNNING" and m.status ~= "WAITING_REVIEW" then return end
  local ready = redis.call("LLEN", k.of_ready(mid))
  if ready > 0 then
    offer(k, mid, now, ready)
  end
  while redis.call("LMOVE", k.of_parked(mid), k.review, "LEFT", "RIGHT") do end
  wake(k, "reviews")
end
-- A final mission runs again; the tasks that were swept with it follow in batches.
local function revive(k, mid, deadline)
  local now = now_us()
  local ended = tonumber(redis.call("HGET", k.of_mission(mid), "finished_at") or now)
  redis.call("HINCRBY", k.of_mission(mid), "still_us", int(now - ended))
  redis.call("HSET", k.of_mission(mid), "status", "RUNNING", "reason", "", "swept", 0, "revived", 0)
  redis.call("HDEL", k.of_mission(mid), "finished_at", "marked")
  redis.call("ZREM", k.finished, mid)
  redis.call("ZADD", k.active, deadline ~= "" and deadline or "+inf", mid)
  redis.call("SREM", k.sweep, mid)
  redis.call("SADD", k.revive, mid)
  missions[mid] = nil
end
