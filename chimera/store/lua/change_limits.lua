#!lua flags=allow-oom
-- Change some limits; those not named stay. A lowered limit binds new grants.
-- KEYS[1]   the tenant's root, or the fleet's
-- ARGV[1]   operation id: the same again changes nothing
-- ARGV[2]   who sets
-- ARGV[3]   why
-- ARGV[4]   the most limits that may stand
-- ARGV[5]   1 only to lower: who asks may raise none
-- ARGV[6..] stride 2: limit (`day`, `agent/NAME/day`, `model/NAME/day`), µ$; "" removes it
-- Returns   1; or -8 there would be more than may stand: nothing was changed; or -4 one stands lower
--           than it was looked at, and would be raised: nothing was changed
--- include keys
--- include clock
--- include record
--- include operation
--- include limits
local k = keys(KEYS[1])
local op, before = operation(k, "limits", "", ARGV[1])
if before then return before end
local wanted, count = {}, 0
local flat = redis.call("HGETALL", k.limits)
for i = 1, #flat, 2 do wanted[flat[i]] = flat[i + 1] end
for i = 6, #ARGV, 2 do
  local stands, to = tonumber(wanted[ARGV[i]] or nil), tonumber(ARGV[i + 1])
  if ARGV[5] == "1" and stands and (not to or to > stands) then return -4 end
end
for i = 6, #ARGV, 2 do wanted[ARGV[i]] = ARGV[i + 1] ~= "" and ARGV[i + 1] or nil end
for _ in pairs(wanted) do count = count + 1 end
if count > tonumber(ARGV[4]) then return -8 end
put_limits(k, wanted, ARGV[2], ARGV[3])
return conclude(op, 1)
