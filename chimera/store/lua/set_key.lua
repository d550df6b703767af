#!lua flags=allow-oom
-- Let a key act for a tenant. One that it has already stays as it is, for it may have been rotated since.
-- KEYS[1]   the API keys
-- KEYS[2]   the tenant's: key id → digest
-- ARGV[1]   the key's digest
-- ARGV[2]   the key's id
-- ARGV[3]   its record (JSON): whose it is
-- Returns   1
if redis.call("HGET", KEYS[2], ARGV[2]) ~= ARGV[1] or not redis.call("HGET", KEYS[1], ARGV[1]) then
  redis.call("HSET", KEYS[1], ARGV[1], ARGV[3])
  redis.call("HSET", KEYS[2], ARGV[2], ARGV[1])
end
return 1
