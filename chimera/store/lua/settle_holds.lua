-- End holds: charge what calls really cost. By the hold id alone, once: spent money is never refused.
-- A hold that had expired (charged at its worst case) is corrected by a late settlement.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   the governor
-- ARGV[3..] stride 3: hold id, cost (µ$; "" releases: the call was never sent), charge (JSON)
-- Returns   per hold: 1 settled · 0 settled before · -2 there is no such hold; or -5 an older term
--- include keys
--- include clock
--- include record
--- include work
--- include term
--- include ledger
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local c = calendar(now)
local out = {}
for i = 3, #ARGV, 3 do
  local hold = ARGV[i]
  local h = redis.call("HMGET", k.of_hold(hold), "task", "amount", "state")
  if not h[1] then
    out[#out + 1] = -2
  elseif h[3] == "settled" or h[3] == "released" then
    out[#out + 1] = 0
  else
    local mid, amount = mission_of(h[1]), tonumber(h[2])
    local released = ARGV[i + 1] == ""
    local cost = released and 0 or tonumber(ARGV[i + 1])
    redis.call("ZREM", k.holds, hold)
    if h[3] == "expired" then charge(k, mid, 0, cost - amount, c) else charge(k, mid, amount, cost, c) end
    redis.call("HSET", k.of_hold(hold), "state", released and "released" or "settled", "cost", int(cost))
    redis.call("EXPIRE", k.of_hold(hold), 3600)
    if released then
      note("spend.released", mid, h[1], { hold = hold })
    else
      redis.call("HINCRBY", k.of_task(h[1]), "spent", int(h[3] == "expired" and cost - amount or cost))
      note("spend.settled", mid, h[1], { hold = hold, cost = cost, charge = ARGV[i + 2] })
    end
    out[#out + 1] = 1
  end
end
write_log(k, ARGV[2], now)
return out
