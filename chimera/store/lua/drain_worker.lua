#!lua flags=allow-oom
-- Ask a worker to take no more work and leave: it hears so at its next heartbeat.
-- KEYS[1]   the tenant's root
-- ARGV[1]   worker
-- Returns   1
--- include keys
local k = keys(KEYS[1])
redis.call("HSET", k.of_worker(ARGV[1]), "drain", "1")
redis.call("EXPIRE", k.of_worker(ARGV[1]), 3600)
return 1
