#!lua flags=allow-oom
-- A draw has arrived, or was given up: then what was held for it comes back.
-- KEYS[1]   the fleet's root
-- ARGV[1]   the governor's term
-- ARGV[2]   tenant
-- ARGV[3]   the draw's number
-- ARGV[4]   1 the tenant took it · 0 it never will
-- Returns   1; or -5 an older term
--- include keys
--- include clock
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local draw = k.of_draw(ARGV[2])
local d = redis.call("HMGET", draw, "number", "amount", "open")
if d[1] ~= ARGV[3] or d[3] ~= "1" then return 1 end
redis.call("HSET", draw, "open", 0)
redis.call("ZREM", k.draws, ARGV[2])
if ARGV[4] == "0" then redis.call("HINCRBY", k.ledger, "held", "-" .. d[2]) end
return 1
