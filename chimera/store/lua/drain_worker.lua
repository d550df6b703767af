#!lua flags=allow-oom
-- Ask a worker to take no more work and leave: it hears so at its next heartbeat.
-- KEYS[1]   the tenant's root
-- ARGV[1]   worker
-- ARGV[2]   for how long what is not of high priority may go on, µs; "" for as long as the worker's settings say
-- Returns   1
--- include keys
--- include clock
local k = keys(KEYS[1])
local key = k.of_worker(ARGV[1])
redis.call("HSET", key, "drain", "1")
if ARGV[2] ~= "" then
  -- Asked again it may only be sooner.
  local by = now_us() + tonumber(ARGV[2])
  local before = tonumber(redis.call("HGET", key, "drain_by") or by)
  redis.call("HSET", key, "drain_by", int(math.min(before, by)))
end
redis.call("EXPIRE", key, 3600)
return 1
