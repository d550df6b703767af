#!lua flags=allow-oom
-- Second step: the fleet's ledger takes a tenant's parcel, once.
-- KEYS[1]   the fleet's root
-- ARGV[1]   the governor's term
-- ARGV[2]   tenant
-- ARGV[3]   the parcel's number
-- ARGV[4]   µ$ that were spent of what it had drawn
-- ARGV[5]   µ$ that it gives back
-- ARGV[6..] stride 2: minute, µ$ spent in it (below 0: charged too much before)
-- Returns   1 taken, now or before; or -5 an older term
--- include keys
--- include clock
--- include term
--- include windows
--- include ledger
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local draw = k.of_draw(ARGV[2])
if tonumber(ARGV[3]) <= tonumber(redis.call("HGET", draw, "parcel") or 0) then return 1 end
redis.call("HSET", draw, "parcel", ARGV[3])
-- Of "minute:2026-11-28T20:31": how much of it names each window.
local LENGTH = { minute = 16, hour = 13, day = 10, month = 7, year = 4 }
owe(k.ledger, "held", -tonumber(ARGV[4]) - tonumber(ARGV[5]))
for i = 6, #ARGV, 2 do
  local at, spent = string.sub(ARGV[i], 8), tonumber(ARGV[i + 1])
  owe(k.ledger, "settled:lifetime", spent)
  for window, length in pairs(LENGTH) do owe(k.ledger, "settled:" .. window .. ":" .. string.sub(at, 1, length), spent) end
end
write_charges(k, now)
return 1
