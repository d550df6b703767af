-- Redis' own clock, in µs. Lua prints large numbers as 1.79e15: every number that is stored or
-- returned goes through int().
local function now_us()
  local t = redis.call("TIME")
  return t[1] * 1000000 + t[2]
end
local function int(number) return string.format("%.0f", number) end
