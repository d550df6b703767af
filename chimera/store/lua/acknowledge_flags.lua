#!lua flags=allow-oom
-- Somebody has seen what limits refused: flags go. One that is refused again comes back.
-- KEYS[1]   the tenant's root
-- ARGV[1]   operation
-- ARGV[2]   who says so
-- ARGV[3]   a comment, or ""
-- ARGV[4..] levels, each with all its missions; or "mission " and a mission's id; "*": every one
-- Returns   how many went
--- include keys
--- include clock
--- include record
--- include operation
local k = keys(KEYS[1])
local key, answered = operation(k, "flags", "", ARGV[1])
if answered then return answered end
local named, gone = {}, {}
for i = 4, #ARGV do named[ARGV[i]] = true end
local found = redis.call("HGETALL", k.flags)
for at = 1, #found, 2 do
  local mid = string.match(found[at], "^mission (.+)$") or ""
  local level = mid ~= "" and "mission" or found[at]
  if named["*"] or named[level] or named[found[at]] then
    gone[#gone + 1] = found[at]
    local flag = cjson.decode(found[at + 1])
    note("flag.acknowledged", mid, "", { level = level, kind = flag.kind, count = tonumber(flag.count),
      comment = ARGV[3] ~= "" and ARGV[3] or nil })
  end
end
if #gone > 0 then redis.call("HDEL", k.flags, unpack(gone)) end
write_log(k, ARGV[2], now_us())
return conclude(key, #gone)
