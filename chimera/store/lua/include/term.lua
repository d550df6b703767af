-- Leaders act under a term: a lower one is refused, a higher one is remembered.
local function hold_term(k, role, term)
  local seen = tonumber(redis.call("GET", k.of_term(role)) or 0)
  if term < seen then return false end
  if term > seen then redis.call("SET", k.of_term(role), int(term)) end
  return true
end
