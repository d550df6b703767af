#!lua flags=allow-oom
-- A worker leaves the swarm of its own accord: drained, idle or stopped.
-- KEYS[1]   the tenant's root
-- ARGV[1]   worker
-- ARGV[2]   why
-- Returns   1 it left · 0 it had left before
--- include keys
--- include clock
--- include record
local k = keys(KEYS[1])
if redis.call("ZREM", k.workers, ARGV[1]) == 0 then return 0 end
note("worker.ended", "", "", { worker = ARGV[1], reason = ARGV[2] })
write_log(k, ARGV[1], now_us())
return 1
