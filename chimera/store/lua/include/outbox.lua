-- Moving actions. Every change of an action's status after its birth (see accept) goes through turn(), whose
-- pairs of literals a test checks against core.action.ACTION_TRANSITIONS.
local function turn(k, action, from, to, ...)
  redis.call("HSET", k.of_action(action), "status", to, ...)
  local outcomes = k.of_outcomes(mission_of(action))
  redis.call("HINCRBY", outcomes, from, -1)
  redis.call("HINCRBY", outcomes, to, 1)
end
-- "m1.0/2" → "m1.0", 2
local function parts_of(action)
  local task, index = string.match(action, "^(.+)/(%d+)$")
  return task, tonumber(index)
end
