#!lua flags=allow-oom
-- Look at one mission: is it over, does it wait for a human, is it under way again?
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   the orchestrator's term
-- ARGV[3]   who looks
-- Returns   {the mission's status, wholly planned (0/1)}; or -5 an older term, or -2 there is no such mission
--- include keys
--- include clock
--- include record
--- include work
--- include term
--- include settle
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "orchestrator", tonumber(ARGV[2])) then return -5 end
local status, planned_all = settle(k, ARGV[1], now)
if not status then return -2 end
write_log(k, ARGV[3], now)
return { status, planned_all and 1 or 0 }
