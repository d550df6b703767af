#!lua flags=allow-oom
-- A worker's heartbeat: renew its leases, hear its orders.
-- KEYS[1]   the tenant's root
-- ARGV[1]   worker
-- ARGV[2]   lease, µs: for the tasks and for the worker itself
-- ARGV[3]   its slots
-- ARGV[4]   its busy slots
-- ARGV[5]   its process: id@host
-- ARGV[6]   the cluster's node that it is on, or ""
-- ARGV[7..] stride 2: task id, token
-- Returns   {now_us, drain (0/1), answers, µs after which it hands back what is not of high priority, or -1};
--           an answer is {1, expires_us} renewed ·
--           {-1, holder, since_ms, status} the lease is lost · {-3} the attempt's time is up
--- include keys
--- include clock
--- include record
--- include work
--- include pulse
--- include lapse
local k = keys(KEYS[1])
local now = now_us()
local worker, lease = ARGV[1], tonumber(ARGV[2])
local expires = int(now + lease)
stalled(k, now, lease)
if redis.call("ZADD", k.workers, expires, worker) == 1 then
  redis.call("HDEL", k.of_worker(worker), "fell")
  note("worker.started", "", "", { worker = worker, slots = tonumber(ARGV[3]) })
end
redis.call("HSET", k.of_worker(worker), "slots", ARGV[3], "busy", ARGV[4], "beat", int(now),
  "process", ARGV[5], "pid", string.match(ARGV[5], "^%d+"), "node", ARGV[6])
redis.call("EXPIRE", k.of_worker(worker), 3600)
local answers, leases = {}, {}
for i = 7, #ARGV, 2 do
  local id = ARGV[i]
  local t = redis.call("HMGET", k.of_task(id), "status", "token", "claimed_at")
  if t[1] ~= "PENDING" or t[2] ~= ARGV[i + 1] then
    answers[#answers + 1] = lost(k, id, ARGV[i + 1], worker)
  elseif now >= tonumber(t[3]) + mission(k, mission_of(id)).timeout_us then
    answers[#answers + 1] = { -3 }
  else
    leases[#leases + 1] = expires
    leases[#leases + 1] = id
    answers[#answers + 1] = { 1, expires }
  end
end
all("ZADD", k.leases, leases)
write_counts(k)
write_log(k, worker, now)
local order = redis.call("HMGET", k.of_worker(worker), "drain", "drain_by")
local left = order[2] and math.max(0, tonumber(order[2]) - now) or -1
return { int(now), order[1] == "1" and 1 or 0, answers, int(left) }
