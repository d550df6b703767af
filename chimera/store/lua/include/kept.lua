-- Replies of settled calls, kept so that a re-run need not pay again: a hash for each task and round, from call to
-- reply ("" for one that could not be used), with their size under "bytes". The governor's scripts alone write it;
-- a script that ends a round asks the governor to forget it (work.lua).
local function of_round(k, id, round) return k.of_kept(id .. "/" .. round) end
-- True when the reply stands there afterwards: its task is there, its round is not over, and all of the round's fit
-- into `most` bytes. `t` is what the task says: status, spent, round, kept (nil: nothing is kept of this round yet).
local function keep(k, id, t, round, call, reply, most, ttl_s)
  if not t[1] or t[1] == "ACCEPTED" or t[1] == "FAILED" or (t[3] or "0") ~= round then return false end
  local replies, bytes = of_round(k, id, round), #reply
  if t[4] then
    local r = redis.call("HMGET", replies, call, "bytes")
    if r[1] then return true end
    bytes = bytes + tonumber(r[2] or 0)
  end
  if bytes > most then return false end
  redis.call("HSET", replies, call, reply, "bytes", bytes)
  redis.call("EXPIRE", replies, ttl_s)
  return true
end
