-- What the tenant's brake refuses, as reserve_holds.lua answers: nil when it lets a call pass. Who is refused comes
-- back later the longer it has stood, so that a tenant that is frozen for hours does not ask all the time.
local LEAST_PAUSE_S, MOST_PAUSE_S = 5, 30
local brake
local function braked(k, mid, now)
  if not brake then
    local b = redis.call("HMGET", k.brake, "state", "since")
    brake = { state = b[1] or "open", since = tonumber(b[2] or 0) }
  end
  if brake.state == "open" then return nil end
  if brake.state == "throttled" and mid ~= "" and mission(k, mid).priority == "high" then return nil end
  local stood = (now - brake.since) / 4000000
  local pause = math.ceil(math.min(MOST_PAUSE_S, math.max(LEAST_PAUSE_S, stood)))
  return { -7, "window", "brake/" .. brake.state, "0", "0", "0", int(pause), "0" }
end
