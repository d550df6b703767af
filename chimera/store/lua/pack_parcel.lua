#!lua flags=allow-oom
-- What a tenant tells the fleet's ledger, first step of three: what it spent since the last parcel, and what it gives
-- back. A parcel that may not have arrived is told again, unchanged.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   1 it gives back what it drew and does not hold
-- Returns   {number, covered, back, minute, spent µ$, minute, spent µ$ …}; `covered`: of what was spent, that had been
--           drawn; {} there is nothing to tell; or -5 an older term
--- include keys
--- include clock
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local p, spent = {}, {}
local flat = redis.call("HGETALL", k.purse)
for i = 1, #flat, 2 do p[flat[i]] = flat[i + 1] end
if not p.parcel then
  local covered, back = tonumber(p.covered or 0), 0
  if ARGV[2] == "1" then
    back = math.max(0, tonumber(p.allowance or 0) - tonumber(redis.call("HGET", k.ledger, "held") or 0))
  end
  local gone = {}
  for field, change in pairs(p) do
    local minute = string.match(field, "^told:(.+)$")
    if minute and #gone < 500 then
      gone[#gone + 1] = field
      if change ~= "0" then spent[#spent + 1] = minute; spent[#spent + 1] = change end
    end
  end
  if #spent == 0 and covered == 0 and back == 0 then return {} end
  p.number = tonumber(p.number or 0) + 1
  p.parcel = int(covered) .. " " .. int(back) .. " " .. table.concat(spent, " ")
  if #gone > 0 then redis.call("HDEL", k.purse, unpack(gone)) end
  redis.call("HSET", k.purse, "parcel", p.parcel, "number", p.number, "covered", 0)
  if back > 0 then redis.call("HINCRBY", k.purse, "allowance", int(-back)) end
end
local out = { tonumber(p.number) }
for word in string.gmatch(p.parcel, "%S+") do out[#out + 1] = word end
return out
