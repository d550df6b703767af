#!lua flags=allow-oom
-- Make a tenant, unless there is one of that name; whoever keeps the users of Redis is told.
-- KEYS[1]   the tenants
-- ARGV[1]   tenant
-- ARGV[2]   its record (JSON)
-- Returns   1 made · 0 there was one
local made = redis.call("HSETNX", KEYS[1], ARGV[1], ARGV[2])
if made == 1 then redis.call("PUBLISH", "chimera:users:" .. ARGV[1], "") end
return made
