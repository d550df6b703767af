#!lua flags=allow-oom
-- Make a spare one tenant's, for good. It is told by its bell.
-- KEYS[1]   the spares
-- KEYS[2]   the spare's bell
-- ARGV[1]   spare
-- ARGV[2]   tenant
-- Returns   the tenant whose it is, the first that asked · "" there is no such spare
local owner = redis.call("HGET", KEYS[1], ARGV[1])
if owner ~= "" then return owner or "" end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("RPUSH", KEYS[2], ARGV[2])
redis.call("EXPIRE", KEYS[2], 60)
return ARGV[2]
