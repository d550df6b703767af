#!lua flags=allow-oom
-- A worker was seen to be gone: what it held goes back to work at once, without waiting for its leases to end.
-- KEYS[1]   the tenant's root
-- ARGV[1]   worker
-- ARGV[2]   who saw it
-- ARGV[3]   rank among the leases to look from
-- ARGV[4]   most leases to look at
-- ARGV[5]   deaths alone that make a task poisoned
-- ARGV[6]   how it went: died | ended (with its fleet or its node, which tells nothing about its tasks)
-- Returns   {tasks released, rank to look from next, or -1 when all are seen}
--- include keys
--- include clock
--- include record
--- include work
--- include pulse
--- include suspect
--- include rescue
local k = keys(KEYS[1])
local now = now_us()
local worker, from, most = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call("ZREM", k.workers, worker) == 1 then
  note("worker.ended", "", "", { worker = worker, reason = ARGV[6] })
end
local released = 0
local ids = redis.call("ZRANGE", k.leases, from, from + most - 1)
for _, id in ipairs(ids) do
  local t = redis.call("HMGET", k.of_task(id), unpack(RESCUED))
  if t[1] == "PENDING" and t[2] == worker then
    redis.call("ZREM", k.leases, id)
    if ARGV[6] == "died" then
      fall(k, id, t, now, tonumber(ARGV[5]))
    else
      part(k, worker, id)
      end_attempt(k, id, "PENDING", "task.returned", nil, "", false, 0,
        { attempt = tonumber(t[4]), detail = "its worker was ended" }, now)
    end
    released = released + 1
  end
end
write_counts(k)
ring(k)
write_log(k, ARGV[2], now)
if released > 0 then wake(k, "missions") end
return { released, #ids < most and -1 or from + #ids - released }
