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
--- include depend
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
local waiting, seen = {}, {}
for _, id in ipairs(redis.call("LPOP", k.fallen, ARGV[2]) or {}) do
  local mid = mission_of(id)
  for name in string.gmatch(redis.call("HGET", k.of_spec(id), "needed_by") or "", "[^ ]+") do
    local other = mid .. "." .. name
    if not seen[other] then seen[other] = true; waiting[#waiting + 1] = other end
  end
  if mission(k, mid).status then mark_dirty(k, mid) end -- else it was pruned since
end
for _, id in ipairs(waiting) do
  if redis.call("HGET", k.of_task(id), "status") == "BLOCKED" then advance(k, id, mission_of(id), now) end
end
write_counts(k)
ring(k)
write_log(k, ARGV[3], now)
return redis.call("LLEN", k.fallen)
