#!lua flags=allow-oom
-- Move the exporter's cursor on: every event up to there was delivered, or is put aside here as a dead letter. Unlike
-- the archive's, the cursor may be of an entry that was trimmed: what is archived is read there.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the orchestrator's term
-- ARGV[2]   sink
-- ARGV[3]   the cursor it moves from, or "" when it had none
-- ARGV[4]   the cursor it moves to: "<epoch> <number> <stream id> "
-- ARGV[5..] stride 2: an event's id, and its dead letter as JSON
-- Returns   1 moved, also when it just was · 0 it stands elsewhere · -5 an older term
--- include keys
--- include clock
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
local cursor = redis.call("HGET", k.sinks, ARGV[2]) or ""
if cursor == ARGV[4] then return 1 end
if cursor ~= ARGV[3] then return 0 end
redis.call("HSET", k.sinks, ARGV[2], ARGV[4])
for i = 5, #ARGV, 2 do redis.call("HSET", k.dead, ARGV[i], ARGV[i + 1]) end
return 1
