#!lua flags=allow-oom
-- Record an administrative act, once for an operation. Its effect is in another slot, and follows.
-- KEYS[1]   the root of the tenant, or of the fleet
-- ARGV[1]   operation id
-- ARGV[2]   kind of the recorder's event
-- ARGV[3]   who acts
-- ARGV[4]   details (JSON)
-- ARGV[5]   newest entries to keep; 0: all, somebody else trims them
-- Returns   1 recorded · 0 it was before
--- include keys
--- include clock
--- include record
--- include operation
local k = keys(KEYS[1])
local op, before = operation(k, ARGV[2], "", ARGV[1])
if before then return 0 end
note(ARGV[2], "", "", cjson.decode(ARGV[4]))
write_log(k, ARGV[3], now_us())
if ARGV[5] ~= "0" then redis.call("XTRIM", k.log, "MAXLEN", "~", ARGV[5]) end
conclude(op, 1)
return 1
