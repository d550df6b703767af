#!lua flags=allow-oom
-- Take entries off the old end of the recorder's stream: those that are archived, save a live window of the newest. The
-- entry that the archive stands at stays, so that readers see where it joins. Another sink that has not come so far
-- reads on in the archive: it keeps nothing here.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the orchestrator's term
-- ARGV[2]   entries of the live window
-- ARGV[3]   most entries to take off in this call
-- Returns   entries taken off · -5 an older term
--- include keys
--- include clock
--- include sinks
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
local excess = math.min(redis.call("XLEN", k.log) - tonumber(ARGV[2]), tonumber(ARGV[3]))
local cursor = redis.call("HGET", k.sinks, "archive")
if excess <= 0 or not cursor then return 0 end
local oldest = redis.call("XRANGE", k.log, "-", "+", "COUNT", excess + 1)
local keep = oldest[#oldest][1]
local archived = string.match(cursor, "^%d+ %d+ (%S+)")
if before(archived, keep) then keep = archived end
return redis.call("XTRIM", k.log, "MINID", "=", keep)
