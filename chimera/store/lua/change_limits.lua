#!lua flags=allow-oom
-- Change some limits; those not named stay. A lowered limit binds new grants.
-- KEYS[1]   the tenant's root, or the fleet's
-- ARGV[1]   operation id: the same again changes nothing
-- ARGV[2]   who sets
-- ARGV[3]   why
-- ARGV[4]   the most limits that may stand
-- ARGV[5]   1 when it may raise or remove what stands
-- ARGV[6..] stride 2: limit (`day`, `agent/NAME/day`, `model/NAME/day`), µ$; "" removes it
-- Returns   1; or, and nothing was changed, -8 there would be more than may stand · -1 it raises what it may not
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
  local stands, limit = tonumber(wanted[ARGV[i]]), tonumber(ARGV[i + 1])
  if stands and not (limit and limit <= stands) and ARGV[5] ~= "1" then return -1 end
  wanted[ARGV[i]] = limit and ARGV[i + 1] or nil
end
for _ in pairs(wanted) do count = count + 1 end
if count > tonumber(ARGV[4]) then return -8 end
put_limits(k, wanted, ARGV[2], ARGV[3])
return conclude(op, 1)
