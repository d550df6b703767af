#!lua flags=allow-oom
-- Take keys away from a tenant: nobody is let in by them any more. That there were such ids is known as long as
-- operations are: the one that made a key makes it no second time.
-- KEYS[1]   the API keys
-- KEYS[2]   the tenant's: key id → digest
-- KEYS[3]   when keys were used
-- ARGV[1..] ids of keys
-- Returns   how many of them there were
--- include clock
local count, now = 0, math.floor(now_us() / 1000000)
for i = 1, #ARGV do
  local digest = redis.call("HGET", KEYS[2], ARGV[i])
  if digest and not string.match(digest, "^revoked ") then
    redis.call("HDEL", KEYS[1], digest)
    redis.call("HSET", KEYS[2], ARGV[i], "revoked " .. now)
    redis.call("HDEL", KEYS[3], digest)
    count = count + 1
  end
end
return count
