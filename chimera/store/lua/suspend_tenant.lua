#!lua flags=allow-oom
-- Suspend a tenant, or let it go on: while it is, nothing of it is claimed and nothing reserved.
-- KEYS[1]   the tenant's root
-- ARGV[1]   operation id: the same again changes nothing
-- ARGV[2]   who does it
-- ARGV[3]   1 to suspend, 0 to go on
-- ARGV[4]   why, in words
-- Returns   1 done · 0 it stood so already
--- include keys
--- include clock
--- include record
--- include operation
local k = keys(KEYS[1])
local now = now_us()
local verb = ARGV[3] == "1" and "suspend" or "resume"
local op, before = operation(k, verb, "", ARGV[1])
if before then return before end
if redis.call("HEXISTS", k.quota, "suspended") == tonumber(ARGV[3]) then return conclude(op, 0) end
if verb == "suspend" then
  redis.call("HSET", k.quota, "suspended", int(now) .. " " .. ARGV[4])
  note("tenant.suspended", "", "", { reason = ARGV[4] })
else
  redis.call("HDEL", k.quota, "suspended")
  note("tenant.resumed", "", "", { reason = ARGV[4] })
  redis.call("PUBLISH", "chimera:load:" .. k.tenant, "")
end
write_log(k, ARGV[2], now)
return conclude(op, 1)
