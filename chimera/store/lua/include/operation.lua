-- Operations of people and programs: what one answered is kept for a day. Whenever it comes again in that time,
-- whatever came between, it answers the same and changes nothing.
local function operation(k, verb, id, operation_id)
  local key = k.of_operation(verb .. " " .. id .. " " .. operation_id)
  return key, tonumber(redis.call("GET", key) or nil)
end
local function conclude(key, answer)
  redis.call("SET", key, answer, "EX", 86400)
  return answer
end
