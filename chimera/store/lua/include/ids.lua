-- A mission's task ids in the order planned: a list, but for a large mission, whose tasks are numbered.
local function ids_of(k, mid, from, most)
  local m = redis.call("HMGET", k.of_mission(mid), "large", "planned")
  if not m[1] then return redis.call("LRANGE", k.of_ids(mid), from, from + most - 1) end
  local ids = {}
  for number = from, math.min(from + most, tonumber(m[2])) - 1 do ids[#ids + 1] = mid .. "." .. int(number) end
  return ids
end
local function count_ids(k, mid)
  local m = redis.call("HMGET", k.of_mission(mid), "large", "planned")
  return m[1] and tonumber(m[2]) or redis.call("LLEN", k.of_ids(mid))
end
