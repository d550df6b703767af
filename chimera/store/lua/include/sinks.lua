-- Sinks read the recorder's stream and store it elsewhere. Each has a cursor, "<epoch> <number> <stream id> …";
-- what is not archived stays.
local function holds(k, entry, number)
  local found = redis.call("XRANGE", k.log, entry, entry)[1]
  if not found then return false end
  for i = 1, #found[2], 2 do
    if found[2][i] == "seq" then return found[2][i + 1] == number end
  end
  return false
end
local function before(one, other)
  local ms, part = string.match(one, "(%d+)-(%d+)")
  local other_ms, other_part = string.match(other, "(%d+)-(%d+)")
  if ms ~= other_ms then return tonumber(ms) < tonumber(other_ms) end
  return tonumber(part) < tonumber(other_part)
end
