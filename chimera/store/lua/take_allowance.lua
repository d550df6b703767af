#!lua flags=allow-oom
-- A tenant draws on the fleet's limits, second step: it takes what was drawn, once; or, of a draw that was given up, it
-- will never take it.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   the draw's number
-- ARGV[3]   µ$ drawn; "" gives it up, unless it was taken
-- Returns   1 it was taken, now or before · 0 it was given up, now or before; or -5 an older term
--- include keys
--- include clock
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local number = tonumber(ARGV[2])
local last = redis.call("HMGET", k.purse, "draw", "taken")
if number <= tonumber(last[1] or 0) then return number == tonumber(last[1]) and tonumber(last[2]) or 0 end
local taken = ARGV[3] ~= "" and 1 or 0
redis.call("HSET", k.purse, "draw", number, "taken", taken)
if taken == 1 then redis.call("HINCRBY", k.purse, "allowance", ARGV[3]) end
return taken
