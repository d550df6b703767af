#!lua flags=allow-oom
-- Read a mission's accepted results in the order planned, as they stand in one instant: for whoever reads all of them.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   how many of its tasks to pass over
-- ARGV[3]   at how many to look, at most
-- ARGV[4]   no further than the result that brings them to so many bytes
-- Returns   {1 when no task follows, else 0, rows}; or -2 the mission is not here, or a part of it is pruned. A row for
--           each task looked at: 0 it is not accepted · its id, where it is not here · of an accepted one {id, stage,
--           needed_by, attempt, spent, finished_at (µs), state_version, result (JSON), verdicts (a list of JSON)}
--- include keys
--- include clock
--- include ids
local k = keys(KEYS[1])
local m = redis.call("HMGET", k.of_mission(ARGV[1]), "status", "archived_at")
if not m[1] or m[2] then return -2 end
local most, left = tonumber(ARGV[3]), tonumber(ARGV[4])
local ids = ids_of(k, ARGV[1], tonumber(ARGV[2]), most)
local rows = {}
for at, id in ipairs(ids) do
  local t = redis.call("HMGET", k.of_task(id), "status", "attempt", "spent", "finished_at", "version")
  if not t[1] then
    rows[at] = id
  elseif t[1] ~= "ACCEPTED" then
    rows[at] = 0
  else
    local s = redis.call("HMGET", k.of_spec(id), "stage", "needed_by")
    local c = redis.call("HMGET", k.of_commit(id), "result", "version")
    local version = c[2] and c[2] ~= "" and c[2] or t[5]
    rows[at] = { id, s[1], s[2], t[2], t[3] or "0", t[4], version, c[1], redis.call("LRANGE", k.of_verdicts(id), 0, -1) }
    left = left - string.len(c[1] or "")
    if left <= 0 then break end
  end
end
return { #rows == #ids and #ids < most and 1 or 0, rows }
