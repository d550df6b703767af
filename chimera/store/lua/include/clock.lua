-- Redis' own clock, in µs. Lua prints large numbers as 1.79e15: every number that is stored or
-- returned goes through int().
local instant -- one for the whole script, even if Redis is stopped amid it
local function now_us()
  if instant then return instant end
  local t = redis.call("TIME")
  instant = t[1] * 1000000 + t[2]
  return instant
end
local function int(number) return string.format("%.0f", number) end
