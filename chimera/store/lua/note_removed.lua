#!lua flags=allow-oom
-- Note that a tenant was removed, or what was done to it since: its recorder has it already, and is brought to its end.
-- KEYS[1]   the tenants that were removed
-- ARGV[1]   tenant
-- ARGV[2]   the act
-- Returns   1
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
return 1
