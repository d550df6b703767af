-- A stall of the store is no evidence against a worker. Everybody who renews, claims or rescues leaves the
-- time here; whoever finds a gap holds rescues back for one lease, in which the living renew. A gap is
-- excused by who has heard the store steadily since before it: then only nobody looked here.
-- `steady`, `heard`: since when, and when last, the caller heard the store (µs); nil when it does not know.
local STALL_US = 500000 -- no shorter gap counts: rescuers look four times a second
local function stalled(k, now, lease, steady, heard)
  local long = math.max(STALL_US, lease / 2)
  local p = redis.call("HMGET", k.pulse, "at", "grace")
  redis.call("HSET", k.pulse, "at", int(now))
  local excused = steady and p[1] and steady <= tonumber(p[1]) and now - heard <= long
  if p[1] and now - tonumber(p[1]) > long and not excused then
    redis.call("HSET", k.pulse, "grace", int(now + lease))
    return true
  end
  return p[2] ~= false and now < tonumber(p[2])
end
