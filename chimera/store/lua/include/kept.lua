-- Replies of settled calls, kept so that a re-run need not pay again: a hash for each task and round, from call to
-- reply ("" for one that could not be used), with their size under "bytes". The governor's scripts alone write it;
-- a script that ends a round asks the governor to forget it (work.lua).
local function of_round(k, id, round) return k.of_kept(id .. "/" .. round) end
-- True when the reply stands there afterwards: its task is there, its round is not over, and all of the round's fit into `most` bytes.
local function keep(k, id, round, call, reply, most, ttl_s)
  local t = redis.call("HMGET", k.of_task(id), "status", "round")
  if not t[1] or t[1] == "ACCEPTED" or t[1] == "FAILED" or (t[2] or "0") ~= round then return false end
  local replies = of_round(k, id, round)
  if redis.call("HEXISTS", replies, call) == 1 then return true end
  local bytes = tonumber(redis.call("HGET", replies, "bytes") or 0) + #reply
  if bytes > most then return false end
  redis.call("HSET", replies, call, reply, "bytes", bytes)
  redis.call("EXPIRE", replies, ttl_s)
  redis.call("HSET", k.of_task(id), "kept", 1)
  return true
end
