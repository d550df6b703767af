#!lua flags=allow-oom
-- Bring back the tasks that ended with their mission, a bounded batch at a time; resumes where it stopped.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   the orchestrator's term
-- ARGV[3]   most tasks to look at
-- ARGV[4]   who revives
-- Returns   tasks still to look at; or -5 an older term
--- include keys
--- include clock
--- include record
--- include work
--- include term
--- include revive
--- include depend
--- include ids
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
if not hold_term(k, "orchestrator", tonumber(ARGV[2])) then return -5 end
if FINAL_MISSION[mission(k, mid).status or "FAILED"] then redis.call("SREM", k.revive, mid); return 0 end
local from = tonumber(redis.call("HGET", k.of_mission(mid), "revived") or 0)
local ids = ids_of(k, mid, from, tonumber(ARGV[3]))
for _, id in ipairs(ids) do
  local t = redis.call("HMGET", k.of_task(id), "status", "reason")
  if t[1] == "CANCELLED" and string.sub(t[2] or "", 1, 8) == "mission_" then
    redis.call("HDEL", k.of_task(id), "reason", "finished_at")
    local becomes = outlook(k, id, mid)
    note("task.revived", mid, id, { to = becomes == "go" and "READY" or "BLOCKED" })
    if becomes == "go" then
      move(k, id, mid, "CANCELLED", "READY")
      make_ready(k, id, mid, now, false)
    else
      move(k, id, mid, "CANCELLED", "BLOCKED")
      -- What it needs may have failed while its mission was over.
      if becomes == "lost" then advance(k, id, mid, now) end
    end
  end
end
local left = count_ids(k, mid) - from - #ids
redis.call("HSET", k.of_mission(mid), "revived", from + #ids)
if left <= 0 then
  redis.call("SREM", k.revive, mid)
  open_for_claims(k, mid, now)
  mark_dirty(k, mid)
end
write_counts(k)
ring(k)
write_log(k, ARGV[4], now)
return math.max(0, left)
