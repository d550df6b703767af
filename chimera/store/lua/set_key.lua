#!lua flags=allow-oom
-- Let a key act for a tenant.
-- KEYS[1]   the API keys
-- ARGV[1]   the key's digest
-- ARGV[2]   its record (JSON): whose it is
-- Returns   1
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
return 1
