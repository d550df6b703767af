#!lua flags=allow-oom
-- End attempts that have no result: errors and timeouts count, tasks handed back do not.
-- KEYS[1]   the tenant's root
-- ARGV[1]   worker
-- ARGV[2..] stride 6: task id, token, kind (error | timeout | return), delay before it may run again (µs),
--           detail for the record, what the worker says beside it (see told.lua)
-- Returns   per task: {1, status} ended, also when it was before under this token ·
--           {-1, holder, since_ms, status} the lease is lost
--- include keys
--- include clock
--- include record
--- include work
--- include suspect
--- include lapse
--- include told
local k = keys(KEYS[1])
local now = now_us()
local KINDS = {
  error = { "task.erred", "errors", "agent_error", true },
  timeout = { "task.timed_out", "timeouts", "timeout", true },
  ["return"] = { "task.returned", nil, "", false },
}
local out = {}
for i = 2, #ARGV, 6 do
  local id = ARGV[i]
  local t = redis.call("HMGET", k.of_task(id), "status", "token", "ended_token", "attempt", "ended_as", "deaths")
  if t[3] == ARGV[i + 1] then
    out[#out + 1] = { 1, t[5] }
  elseif t[1] ~= "PENDING" or t[2] ~= ARGV[i + 1] then
    out[#out + 1] = lost(k, id, ARGV[i + 1], ARGV[1])
  else
    local kind = KINDS[ARGV[i + 2]]
    note_tools(mission_of(id), id, told(ARGV[i + 5]))
    redis.call("ZREM", k.leases, id)
    took_since("attempt", ARGV[i + 1], now)
    if t[6] and kind[4] then clear(k, ARGV[1], id) elseif t[6] then part(k, ARGV[1], id) end
    redis.call("HSET", k.of_task(id), "ended_token", ARGV[i + 1], "last_error", ARGV[i + 4])
    local status = end_attempt(k, id, "PENDING", kind[1], kind[2], kind[3], kind[4], tonumber(ARGV[i + 3]),
      { attempt = tonumber(t[4]), detail = ARGV[i + 4] }, now)
    redis.call("HSET", k.of_task(id), "ended_as", status)
    out[#out + 1] = { 1, status }
  end
end
write_counts(k)
ring(k)
write_log(k, ARGV[1], now)
wake(k, "missions")
return out
