#!lua flags=allow-oom
-- Remove an archived mission, a bounded batch of its tasks and actions at a time; resumes where it stopped. From the
-- first batch on it counts as archived: nobody can bring it back, and readers look into its file. What has a time of its
-- own goes by that: answers of operations and idempotency keys (a day), holds that ended (an hour), which a late
-- settlement corrects.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   the orchestrator's term
-- ARGV[3]   the mark it was archived under
-- ARGV[4]   most tasks and actions to remove
-- ARGV[5]   who prunes
-- ARGV[6]   SHA-256 of the lines of its file
-- Returns   tasks and actions still to remove; 0 nothing is left, also when it was so before ·
--           -1 it changed since it was marked: archive it anew; or -5 an older term
--- include keys
--- include clock
--- include record
--- include work
--- include term
--- include ids
--- include unlink
local k = keys(KEYS[1])
local mid = ARGV[1]
if not hold_term(k, "orchestrator", tonumber(ARGV[2])) then return -5 end
local m = redis.call("HMGET", k.of_mission(mid), "status", "marked", "archived_at", "pruned")
if not m[1] then return 0 end
if m[2] ~= ARGV[3] then return -1 end
local tasks, actions = count_ids(k, mid), redis.call("LLEN", k.of_actions(mid))
if not m[3] then
  redis.call("HSET", k.of_mission(mid), "archived_at", m[2])
  note("mission.archived", mid, "", { tasks = tasks, actions = actions, sha256 = ARGV[6] })
  write_log(k, ARGV[5], now_us())
end
local left = unlink_batch(k, mid, tonumber(m[4] or 0), tonumber(ARGV[4]), tasks, function(id)
  local t = redis.call("HMGET", k.of_task(id), "kept", "round")
  if t[1] then redis.call("UNLINK", k.of_kept(id .. "/" .. (t[2] or "0"))) end
end)
if left > 0 then return left end
for _, index in ipairs({ k.missions, k.finished, k.active, k.high, k.normal }) do redis.call("ZREM", index, mid) end
for _, set in ipairs({ k.sweep, k.revive, k.dirty, k.large }) do redis.call("SREM", set, mid) end
return 0
