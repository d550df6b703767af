-- What becomes of a task that waits for others: counted from their states each time, so that a failure passed on
-- twice, taken back in between, or found while the mission was over, changes nothing.
-- Writes how many may still come. Returns "wait" · "go" · "lost" when it cannot run for want of them.
local function outlook(k, id, mid)
  local spec = redis.call("HMGET", k.of_spec(id), "partial", "depends_on")
  local needs, open, lost = 0, 0, 0
  for name in string.gmatch(spec[2] or "", "[^ ]+") do
    local t = redis.call("HMGET", k.of_task(mid .. "." .. name), "status", "reason")
    needs = needs + 1
    if t[1] == "FAILED" or (t[1] == "CANCELLED" and t[2] == "upstream_failed") then lost = lost + 1
    elseif t[1] ~= "ACCEPTED" then open = open + 1 end
  end
  redis.call("HSET", k.of_task(id), "waits_for", open)
  if lost > 0 and (spec[1] ~= "1" or lost == needs) then return "lost" end
  return open > 0 and "wait" or "go"
end
-- A BLOCKED task goes on, ends, or waits further.
local function advance(k, id, mid, now)
  local becomes = outlook(k, id, mid)
  if becomes == "lost" then
    move(k, id, mid, "BLOCKED", "CANCELLED", "reason", "upstream_failed", "finished_at", int(now))
    note("task.cancelled", mid, id, { reason = "upstream_failed" })
    redis.call("RPUSH", k.fallen, id)
  elseif becomes == "go" then
    move(k, id, mid, "BLOCKED", "READY")
    note("task.unblocked", mid, id)
    make_ready(k, id, mid, now, true)
  end
end
