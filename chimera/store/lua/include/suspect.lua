-- Suspects: tasks with which workers died twice, and that ended no attempt since. After a first death a task runs
-- anywhere, as fresh ones do. Each further one lets it run in smaller company of other suspects, until it is known
-- whether it brings down its worker alone.
local function is_suspect(deaths) return deaths >= 2 end
local function company(slots, deaths) return math.max(1, math.floor(slots / 4 ^ (deaths - 1))) end
local function may_join(k, worker, slots, deaths)
  if not is_suspect(deaths) then return true end
  local held = k.of_suspects(worker)
  local strictest = tonumber(redis.call("ZRANGE", held, -1, -1, "WITHSCORES")[2] or 0)
  return redis.call("ZCARD", held) < company(slots, math.max(deaths, strictest))
end
local function join(k, worker, id, deaths)
  if not is_suspect(deaths) then return end
  redis.call("ZADD", k.of_suspects(worker), deaths, id)
  redis.call("EXPIRE", k.of_suspects(worker), 86400)
end
local function part(k, worker, id) redis.call("ZREM", k.of_suspects(worker), id) end
-- It ended an attempt and its worker lives: it is no suspect any more.
local function clear(k, worker, id)
  part(k, worker, id)
  redis.call("HDEL", k.of_task(id), "deaths", "alone")
end
