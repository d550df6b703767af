#!lua flags=allow-oom
-- Put requests for money before the governor, and wake it.
-- KEYS[1]   the tenant's root
-- ARGV[1]   asker: the worker or judge
-- ARGV[2]   operation id: the same again changes nothing
-- ARGV[3..] stride 1: request (JSON)
-- Returns   1
--- include keys
local k = keys(KEYS[1])
if redis.call("HGET", k.of_worker(ARGV[1]), "sent") ~= ARGV[2] then
  redis.call("HSET", k.of_worker(ARGV[1]), "sent", ARGV[2])
  redis.call("EXPIRE", k.of_worker(ARGV[1]), 3600)
  for i = 3, #ARGV, 1000 do redis.call("RPUSH", k.requests, unpack(ARGV, i, math.min(i + 999, #ARGV))) end
end
redis.call("PUBLISH", "chimera:money:" .. k.tenant, "")
return 1
