#!lua flags=allow-oom
-- Move a sink's cursor on: what it read up to there is stored elsewhere.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the orchestrator's term
-- ARGV[2]   sink
-- ARGV[3]   the cursor it moves from, or "" when it had none
-- ARGV[4]   the cursor it moves to: "<epoch> <number> <stream id> <hash>"
-- ARGV[5]   number of the last event that it read
-- ARGV[6]   stream id of that event's entry
-- Returns   1 moved, also when it just was · 0 it stands elsewhere · -5 an older term ·
--           -1 the stream has no such entry: the store is not the one that was read
--- include keys
--- include clock
--- include sinks
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
local cursor = redis.call("HGET", k.sinks, ARGV[2]) or ""
if cursor == ARGV[4] then return 1 end
if cursor ~= ARGV[3] then return 0 end
if not holds(k, ARGV[6], ARGV[5]) then return -1 end
redis.call("HSET", k.sinks, ARGV[2], ARGV[4])
return 1
