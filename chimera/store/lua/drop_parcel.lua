#!lua flags=allow-oom
-- Third step: the parcel has arrived.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   the parcel's number
-- Returns   1; or -5 an older term
--- include keys
--- include clock
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
if redis.call("HGET", k.purse, "number") == ARGV[2] then redis.call("HDEL", k.purse, "parcel") end
return 1
