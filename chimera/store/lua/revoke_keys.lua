#!lua flags=allow-oom
-- Take keys away from a tenant: nobody is let in by them any more.
-- KEYS[1]   the API keys
-- KEYS[2]   the tenant's: key id → digest
-- KEYS[3]   when keys were used
-- ARGV[1..] ids of keys
-- Returns   how many of them there were
local count = 0
for i = 1, #ARGV do
  local digest = redis.call("HGET", KEYS[2], ARGV[i])
  if digest then
    redis.call("HDEL", KEYS[1], digest)
    redis.call("HDEL", KEYS[2], ARGV[i])
    redis.call("HDEL", KEYS[3], digest)
    count = count + 1
  end
end
return count
