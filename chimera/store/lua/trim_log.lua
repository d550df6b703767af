#!lua flags=allow-oom
-- Take entries off the old end of the recorder's stream: those that every sink has read, save a live window
-- of the newest. The entry that the slowest sink stands at stays, so that readers see where it joins.
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
local cursors = redis.call("HVALS", k.sinks)
if excess <= 0 or #cursors == 0 then return 0 end
local oldest = redis.call("XRANGE", k.log, "-", "+", "COUNT", excess + 1)
local keep = oldest[#oldest][1]
for _, cursor in ipairs(cursors) do
  local entry = string.match(cursor, "^%d+ %d+ (%S+)")
  if before(entry, keep) then keep = entry end
end
return redis.call("XTRIM", k.log, "MINID", "=", keep)
