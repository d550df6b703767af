#!lua flags=allow-oom
-- A key was used.
-- KEYS[1]   the API keys
-- KEYS[2]   when keys were used
-- ARGV[1]   the key's digest
-- Returns   1 noted · 0 there is no such key any more
--- include clock
if not redis.call("HGET", KEYS[1], ARGV[1]) then return 0 end
redis.call("HSET", KEYS[2], ARGV[1], math.floor(now_us() / 1000000))
return 1
