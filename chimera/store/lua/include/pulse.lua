-- A stall of the store is no evidence against a worker. Everybody who renews, claims or rescues leaves the
-- time here; whoever finds a gap holds rescues back for one lease, in which the living renew.
local STALL_US = 500000 -- no shorter gap counts: rescuers look four times a second
local function stalled(k, now, lease)
  local p = redis.call("HMGET", k.pulse, "at", "grace")
  redis.call("HSET", k.pulse, "at", int(now))
  if p[1] and now - tonumber(p[1]) > math.max(STALL_US, lease / 3) then
    redis.call("HSET", k.pulse, "grace", int(now + lease))
    return true
  end
  return p[2] ~= false and now < tonumber(p[2])
end
