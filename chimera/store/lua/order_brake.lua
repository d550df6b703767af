#!lua flags=allow-oom
-- A person moves a tenant's brake. Frozen it stays until it is thawed; thawed, what was spent before counts no more;
-- overridden, it is open and stays so for a while, whatever is spent.
-- KEYS[1]   the tenant's root
-- ARGV[1]   operation id: the same again changes nothing
-- ARGV[2]   who
-- ARGV[3]   order: freeze | thaw | override
-- ARGV[4]   reason, in words
-- ARGV[5]   how long an override lasts, s
-- ARGV[6]   1 when it may undo the canary's freeze
-- Returns   1 it stands so, also when it did before · -1 the canary froze it, and it may not
--- include keys
--- include clock
--- include record
--- include operation
--- include brake
local k = keys(KEYS[1])
local now = now_us()
local verb, reason = ARGV[3], ARGV[4]
local op, before = operation(k, "brake", verb, ARGV[1])
if before then return before end
local b = redis.call("HMGET", k.brake, "state", "cause", "override_until")
local state, cause, until_ = b[1] or "open", b[2] or "", tonumber(b[3] or 0)
if cause == "canary" and state == "frozen" and ARGV[6] ~= "1" then return conclude(op, verb == "freeze" and 1 or -1) end
local function set(to, ...) set_brake(k, state, to, "operator", ARGV[2], reason, {}, now, ...) end
if verb == "freeze" then
  if state == "frozen" and cause == "operator" then return conclude(op, 1) end
  -- Should the canary's failure stand when it is thawed, it freezes for that.
  set("frozen", "override_until", 0, "canary", "")
elseif verb == "thaw" then
  if state == "open" and until_ <= now then return conclude(op, 1) end
  set("open", "override_until", 0, "counted_from", int(now))
else
  set("open", "override_until", int(now + tonumber(ARGV[5]) * 1000000))
end
write_log(k, ARGV[2], now)
return conclude(op, 1)
