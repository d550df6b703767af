#!lua flags=allow-oom
-- Move a tenant's brake as was decided on what was seen of it; nothing happens when it has changed since.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   the governor
-- ARGV[3]   the brake's changes, as seen
-- ARGV[4]   state it shall have
-- ARGV[5]   cause
-- ARGV[6]   since when it has been calm, µs; 0: it is not
-- ARGV[7]   the canary's failure it was frozen for last; "" none
-- ARGV[8]   figures, JSON
-- Returns   1 it stands so, also when it did before · 0 it has changed since; or -5 an older term
--- include keys
--- include clock
--- include record
--- include term
--- include brake
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local b = redis.call("HMGET", k.brake, "state", "cause", "calm_since", "canary", "changes")
local state, cause, canary = b[1] or "open", b[2] or "", b[4] or ""
local same = state == ARGV[4] and canary == ARGV[7]
if same and cause == ARGV[5] and (b[3] or "0") == ARGV[6] then return 1 end
if (b[5] or "0") ~= ARGV[3] then return 0 end
if same then
  -- Calm begins or ends: no step.
  redis.call("HSET", k.brake, "calm_since", ARGV[6])
  redis.call("HINCRBY", k.brake, "changes", 1)
else
  set_brake(k, state, ARGV[4], ARGV[5], ARGV[2], "", cjson.decode(ARGV[8]), now, "canary", ARGV[7])
  write_log(k, ARGV[2], now)
end
return 1
