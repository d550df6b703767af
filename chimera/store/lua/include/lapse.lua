-- Who holds a task whose token is not the one presented. And whoever presents one was alive when it did: if it was
-- taken for dead when its lease ran out, that was no crash, it was only late. What it is suspected of stays: a task
-- that makes its workers stand still again and again, alone, must end like one that kills them.
local function lost(k, id, token, by)
  local t = redis.call("HMGET", k.of_task(id), "status", "worker", "claimed_at", "fell_with")
  if t[4] == token then
    local mid = mission_of(id)
    redis.call("HDEL", k.of_task(id), "fell_with")
    redis.call("HINCRBY", k.of_task(id), "crashes", -1)
    redis.call("HINCRBY", k.of_task(id), "lapses", 1)
    tally(mid, "crashes", -1)
    tally(mid, "lapses", 1)
    note("task.lapsed", mid, id, { worker = by })
  end
  local held = t[1] == "PENDING"
  return { -1, held and t[2] or "", held and int(math.floor(tonumber(t[3]) / 1000)) or "0", t[1] or "" }
end
