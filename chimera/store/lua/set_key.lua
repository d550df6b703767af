#!lua flags=allow-oom
-- Let a key act for a tenant. One that acts for it already stays as it is, under the id that it has: it may have been rotated since, or be
-- what another was rotated to, with scopes and an end of its own.
-- KEYS[1]   the API keys
-- KEYS[2]   the tenant's: key id → digest
-- ARGV[1]   the key's digest
-- ARGV[2]   the key's id
-- ARGV[3]   its record (JSON): whose it is
-- Returns   1
local id, known = ARGV[2], redis.call("HGET", KEYS[1], ARGV[1])
local read, record = pcall(cjson.decode, known or "")
if read and record.tenant == cjson.decode(ARGV[3]).tenant then
  id = record.key_id
else -- nobody's, or damaged
  redis.call("HSET", KEYS[1], ARGV[1], ARGV[3])
end
redis.call("HSET", KEYS[2], id, ARGV[1])
return 1
