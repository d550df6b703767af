#!lua flags=allow-oom
-- Make a tenant, unless there is one of that name.
-- KEYS[1]   the tenants
-- ARGV[1]   tenant
-- ARGV[2]   its record (JSON)
-- Returns   1 it is there
redis.call("HSETNX", KEYS[1], ARGV[1], ARGV[2])
return 1
