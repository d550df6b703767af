-- Flags: what limits refused, until somebody acknowledges it. What one script call refuses is summed, and written once
-- by write_flags(): thousands of refusals a second cost a field or two.
local MOST_FLAGS = 200
local GRAVITY = { contended = 1, window = 2, exhausted = 3 }
local function graver(kind, than) return (GRAVITY[kind] or 0) > (GRAVITY[than] or 0) and kind or than end
local raised, order = {}, {} -- field -> what this call adds · fields as they came
-- A mission's budget is its own: it has a flag for each mission, other levels one.
local function flag(kind, level, mid, amount, limit, fits)
  local field = level == "mission" and level .. " " .. mid or level
  local f = raised[field]
  if not f then
    f = { kind = kind, level = level, count = 0, amount = 0 }
    raised[field] = f
    order[#order + 1] = field
  end
  f.kind = graver(kind, f.kind)
  f.count, f.amount = f.count + 1, math.max(f.amount, amount)
  f.limit, f.fits = limit or 0, fits or 0 -- what refuses without a limit, a brake, has neither
end
local function write_flags(k, now)
  if #order == 0 then return end
  local there, size = redis.call("HMGET", k.flags, unpack(order)), redis.call("HLEN", k.flags)
  local written = {}
  for i, field in ipairs(order) do
    local f, old = raised[field], there[i] and cjson.decode(there[i])
    if not old and size >= MOST_FLAGS and field ~= f.level then
      -- No room for one more of its own: it counts with the others of its level.
      field = f.level
      old = written[field] or redis.call("HGET", k.flags, field)
      old = type(old) == "string" and cjson.decode(old) or old
    end
    if not old then
      size = size + 1
      old = { kind = f.kind, count = 0, first = int(now), amount = 0 }
    end
    old.kind = graver(f.kind, old.kind)
    old.count, old.amount = int(tonumber(old.count) + f.count), int(math.max(tonumber(old.amount), f.amount))
    old.last, old.limit, old.fits = int(now), int(f.limit), int(f.fits)
    written[field] = old
  end
  local fields = {}
  for field, one in pairs(written) do
    fields[#fields + 1] = field
    fields[#fields + 1] = cjson.encode(one)
  end
  redis.call("HSET", k.flags, unpack(fields))
end
