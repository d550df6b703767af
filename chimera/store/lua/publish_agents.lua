#!lua flags=allow-oom
-- Make exactly these the registered agents.
-- KEYS[1]   the catalogue
-- ARGV[1..] stride 2: agent, what is said of it (JSON)
-- Returns   how many there are
redis.call("DEL", KEYS[1])
for i = 1, #ARGV, 2 do redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1]) end
return redis.call("HLEN", KEYS[1])
