#!lua flags=allow-oom
-- End holds: charge what calls really cost, and keep their replies for a re-run. By the hold id alone, once: spent
-- money is never refused. A hold that had expired is corrected: what was charged too much goes back to the windows
-- that it was charged to, what was charged too little counts now. A cost that can be none (negative, not whole, over
-- what one may be) never reaches a counter: the hold's whole amount is charged, and the entry says what was asked.
-- A cost above its hold is charged whole: the entry says by how much, and more is held for that model's calls from now on.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   the governor
-- ARGV[3]   how long replies are kept, s
-- ARGV[4]   most bytes kept of one round of a task: a reply beyond that is not kept
-- ARGV[5]   the most that a cost may be, µ$
-- ARGV[6..] stride 7: hold id, cost (µ$; "" releases: the call was never sent), charge (JSON), round, call ("" keeps
--           nothing), reply ("" one that cannot be used: a re-run asks anew), the call as the recorder is to have it
--           (a JSON object; "": it is not told)
-- Returns   per hold: 1 settled · 0 settled before · -2 there is no such hold · -9 charged whole, for its cost can be none;
--           or -5 an older term
--- include keys
--- include clock
--- include record
--- include work
--- include term
--- include windows
--- include ledger
--- include kept
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local c = calendar(now)
local out, ended = {}, {}
-- After an overrun: what is held for the model's calls, in parts of a million of their worst case, and for how long.
local MARGIN, MOST_FACTOR, REMEMBER_US = 1.1, 100000000, 86400000000
local function remember_overrun(model, cost, amount, enlarged)
  if (model or "") == "" or amount <= 0 then return end
  local key = k.of_subject("model/" .. model)
  local f = redis.call("HMGET", key, "factor", "factor_until")
  local before = f[1] and now < tonumber(f[2]) and tonumber(f[1]) or 1000000
  local needed = math.min(MOST_FACTOR, math.ceil(tonumber(enlarged or 1000000) * cost / amount * MARGIN))
  redis.call("HSET", key, "factor", int(math.max(before, needed)), "factor_until", int(now + REMEMBER_US))
end
local function cost_of(text)
  local cost = #text <= 16 and string.match(text, "^%d+$") and tonumber(text)
  return cost and cost <= tonumber(ARGV[5]) and cost or nil
end
-- Tokens and time of a call, as who made it tells them: a figure that can be none is not counted.
local TOKENS = { "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens" }
local function count_call(text)
  local read, charge = pcall(cjson.decode, text)
  if not read or type(charge) ~= "table" then return end
  for _, name in ipairs(TOKENS) do
    local n = charge[name]
    if type(n) == "number" and n >= 1 and n <= 1e12 then add_up(name, math.floor(n)) end
  end
  took("model", type(charge.latency_ms) == "number" and charge.latency_ms)
end
for i = 6, #ARGV, 7 do
  local hold = ARGV[i]
  local key = k.of_hold(hold)
  local h = redis.call("HMGET", key, "task", "amount", "state", "cost", "expired_at", "agent", "model",
    "factor")
  if not h[1] then
    out[#out + 1] = -2
  elseif h[3] == "settled" or h[3] == "released" then
    out[#out + 1] = 0
  else
    local id, mid, amount = h[1], payer(h[1]), tonumber(h[2])
    local released = ARGV[i + 1] == ""
    local real = released and 0 or cost_of(ARGV[i + 1])
    local cost = real or amount
    local charged, held, when = 0, amount, c
    if h[3] == "expired" then
      charged, held = tonumber(h[4]), 0
      if cost < charged then when = calendar(tonumber(h[5])) end
    else
      ended[#ended + 1] = hold
    end
    local subjects = subjects_of(k, h[6], h[7])
    charge(mid, subjects, held, cost - charged, when)
    if not released and h[3] == "open" then
      for _, subject in ipairs(subjects) do owe(subject, "calls", 1) end
    end
    if cost > amount then remember_overrun(h[7], cost, amount, h[8]) end
    redis.call("HSET", key, "state", released and "released" or "settled", "cost", int(cost))
    redis.call("EXPIRE", key, 3600)
    local task = k.of_task(id)
    local t = redis.call("HMGET", task, "status", "spent", "round", "kept")
    local kept = not released and ARGV[i + 4] ~= ""
      and keep(k, id, t, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], tonumber(ARGV[4]), ARGV[3])
    charge_task(task, t, cost - charged, kept)
    local read, called = false, nil
    if ARGV[i + 6] ~= "" then read, called = pcall(cjson.decode, ARGV[i + 6]) end
    if read and type(called) == "table" then
      called.hold = hold
      note("model.called", mid, task_named(id), called)
    end
    if released then
      note("spend.released", mid, task_named(id), { hold = hold })
    else
      count_call(ARGV[i + 2])
      note("spend.settled", mid, task_named(id), { hold = hold, cost = cost, charge = ARGV[i + 2], kept = kept,
        asked = not real and string.sub(ARGV[i + 1], 1, 40) or nil, over = cost > amount and cost - amount or nil })
    end
    out[#out + 1] = real and 1 or -9
  end
end
close(k, ended)
write_charges(k, now)
write_log(k, ARGV[2], now)
return out
