-- A tenant's brake. Every step of it is an event, and a notice for the webhook (runtime/herald.py): a JSON text with
-- an id of its own. Only the newest notices are kept, so that a receiver that is away for ever takes no room. The newest
-- changes are also kept beside it as they are told, for whoever looks at them: the recorder has all.
local MOST_NOTICES, MOST_MOVES = 100, 100
-- The hash's further fields follow as pairs.
local function set_brake(k, from, to, cause, by, reason, figures, now, ...)
  local changes = redis.call("HINCRBY", k.brake, "changes", 1)
  redis.call("HSET", k.brake, "state", to, "cause", cause, "since", int(now), "by", by, "reason", reason,
    "figures", cjson.encode(figures), "calm_since", 0, ...)
  local told = { from = from, to = to, cause = cause, figures = figures, by = by, reason = reason }
  note("brake.changed", "", "", told)
  local said = cjson.encode({ id = k.tenant .. "/brake/" .. int(changes) .. "/" .. int(now),
    kind = "brake.changed", tenant = k.tenant, at_ms = math.floor(now / 1000), from = from, to = to, cause = cause,
    figures = figures, by = by, reason = reason })
  redis.call("RPUSH", k.notices, said)
  redis.call("LTRIM", k.notices, -MOST_NOTICES, -1)
  redis.call("LPUSH", k.moves, said)
  redis.call("LTRIM", k.moves, 0, MOST_MOVES - 1)
end
