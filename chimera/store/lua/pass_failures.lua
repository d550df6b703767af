#!lua flags=allow-oom
-- Tell those that wait for a failed or cancelled task: they run without it, or are cancelled too.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the orchestrator's term
-- ARGV[2]   most tasks to pass on
-- ARGV[3]   who passes on
-- Returns   tasks still to pass on; or -5 an older term
--- include keys
--- include clock
--- include record
--- include work
--- include term
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
for _, id in ipairs(redis.call("LPOP", k.fallen, ARGV[2]) or {}) do
  local mid = mission_of(id)
  -- A task that was redriven meanwhile has not failed.
  local fell = FINAL_TASK[redis.call("HGET", k.of_task(id), "status")]
  if fell then redis.call("HSET", k.of_task(id), "passed", 1) end
  for name in string.gmatch(redis.call("HGET", k.of_spec(id), "needed_by") or "", "[^ ]+") do
    if not fell then break end
    local other = mid .. "." .. name
    local t = redis.call("HMGET", k.of_task(other), "status", "waits_for")
    if t[1] == "BLOCKED" then
      local spec = redis.call("HMGET", k.of_spec(other), "partial", "depends_on")
      local lost = redis.call("HINCRBY", k.of_task(other), "lost", 1)
      local left = redis.call("HINCRBY", k.of_task(other), "waits_for", -1)
      local _, needs = string.gsub(spec[2], "[^ ]+", "")
      if spec[1] ~= "1" or lost >= needs then
        move(k, other, mid, "BLOCKED", "CANCELLED", "reason", "upstream_failed", "finished_at", int(now))
        note("task.cancelled", mid, other, { reason = "upstream_failed" })
        redis.call("RPUSH", k.fallen, other)
      elseif left == 0 then
        move(k, other, mid, "BLOCKED", "READY")
        note("task.unblocked", mid, other)
        make_ready(k, other, mid, now, true)
      end
    end
  end
  mark_dirty(k, mid)
end
write_counts(k)
ring(k)
write_log(k, ARGV[3], now)
return redis.call("LLEN", k.fallen)
