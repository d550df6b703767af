#!lua flags=allow-oom
-- Ask a worker to take no more work and leave: it hears so at its next heartbeat.
-- KEYS[1]   the tenant's root
-- ARGV[1]   worker
-- ARGV[2]   for how long what is not of high priority may go on, µs; "" for as long as the worker's settings say
-- ARGV[3]   who asks
-- ARGV[4]   why
-- Returns   1
--- include keys
--- include clock
--- include record
local k = keys(KEYS[1])
local key = k.of_worker(ARGV[1])
if redis.call("HGET", key, "drain") ~= "1" then
  note("worker.draining", "", "", { worker = ARGV[1], reason = ARGV[4] ~= "" and ARGV[4] or nil,
    within_s = ARGV[2] ~= "" and tonumber(ARGV[2]) / 1000000 or nil })
end
redis.call("HSET", key, "drain", "1")
if ARGV[2] ~= "" then
  -- Asked again it may only be sooner.
  local by = now_us() + tonumber(ARGV[2])
  local before = tonumber(redis.call("HGET", key, "drain_by") or by)
  redis.call("HSET", key, "drain_by", int(math.min(before, by)))
end
redis.call("EXPIRE", key, 3600)
write_log(k, ARGV[3], now_us())
return 1
