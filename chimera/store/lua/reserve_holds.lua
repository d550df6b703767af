#!lua flags=allow-oom
-- Reserve the worst case of paid calls: every level at once, all or nothing, never over a limit.
-- The check at each level: settled in its window + all held + amount <= limit.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   the governor
-- ARGV[3..] stride 5: hold id, task id, token (a worker's lease or a judge's review), amount (µ$), life (µs)
-- Returns   per hold: {1} granted, also when asked again · {-1, holder, since_ms, status} the lease is lost ·
--           {-7, kind, level, limit, settled, held, retry_after_s} refused; or -5 an older term
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
local limits = {}
local set = redis.call("HMGET", k.limits, unpack(WINDOWS))
for n, window in ipairs(WINDOWS) do
  local limit = set[n]
  if limit then
    limits[#limits + 1] = { window = window, limit = tonumber(limit),
      settled = tonumber(redis.call("HGET", k.ledger, "settled:" .. window_id(window, c)) or 0) }
  end
end
-- What of this call's holds counts already stands in `spend` and `held`; it is written once, at the end.
local held = tonumber(redis.call("HGET", k.ledger, "held") or 0)
local spends = {}
local function spend(mid)
  if not spends[mid] then
    local s = redis.call("HMGET", k.of_spend(mid), "settled", "held")
    spends[mid] = { settled = tonumber(s[1] or 0), held = tonumber(s[2] or 0), more = 0,
      budget = tonumber(redis.call("HGET", k.of_mission(mid), "budget") or 0) }
  end
  return spends[mid]
end
-- The first level that refuses, the hopeless kind before the others.
local found
local function look(amount, level, window, limit, settled, held)
  if settled + held + amount <= limit then return end
  local kind = "contended"
  if amount > limit or (window == "lifetime" and settled + amount > limit) then kind = "exhausted"
  elseif settled + amount > limit then kind = "window" end
  if not found or kind == "exhausted" then
    found = found and found[2] == "exhausted" and found or
      { -7, kind, level, int(limit), int(settled), int(held), int(kind == "window" and resets_in(window, c) or 0) }
  end
end
local function refusal(mid, amount)
  found = nil
  local s = spend(mid)
  look(amount, "mission", "lifetime", s.budget, s.settled, s.held + s.more)
  for _, l in ipairs(limits) do look(amount, "tenant/" .. l.window, l.window, l.limit, l.settled, held) end
  return found
end
-- Nearly always none of these holds is there: one question for all of them.
local names = {}
for i = 3, #ARGV, 5 do names[#names + 1] = k.of_hold(ARGV[i]) end
local repeats = false
for i = 1, #names, 1000 do
  repeats = redis.call("EXISTS", unpack(names, i, math.min(i + 999, #names))) > 0 or repeats
end
local out, dirty, open, unsent, more, granted = {}, false, {}, {}, 0, {}
for i = 3, #ARGV, 5 do
  local hold, id, token, amount = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local key = names[(i + 2) / 5]
  local t = redis.call("HMGET", k.of_task(id), "status", "token", "judge_token", "worker", "claimed_at")
  local mine = (t[1] == "PENDING" and t[2] == token) or (t[1] == "REVIEW" and t[3] == token)
  if granted[hold] or repeats and redis.call("EXISTS", key) == 1 then
    out[#out + 1] = { 1 }
  elseif not mine then
    local held = t[1] == "PENDING"
    out[#out + 1] = { -1, held and t[4] or "", held and int(math.floor(tonumber(t[5]) / 1000)) or "0", t[1] or "" }
  else
    local mid = mission_of(id)
    local refused = refusal(mid, amount)
    if refused then
      note("spend.refused", mid, id, { kind = refused[2], level = refused[3], amount = amount })
      -- Why the task waits (store/waiting.py): kind, level, limit, settled, held, amount, the window's reset, now.
      local resets = refused[7] == "0" and 0 or now + tonumber(refused[7]) * 1000000
      redis.call("HSET", k.of_task(id), "refused", table.concat({ refused[2], refused[3], refused[4], refused[5],
        refused[6], int(amount), int(resets), int(now) }, " "))
      if refused[2] == "exhausted" and refused[3] == "mission" then
        -- For this budget: under a larger one it may go on.
        redis.call("HSET", k.of_spend(mid), "exhausted", redis.call("HGET", k.of_mission(mid), "budget"),
          "wanted", int(amount))
        mark_dirty(k, mid)
        dirty = true
      end
      out[#out + 1] = refused
    else
      local ends = now + tonumber(ARGV[i + 4])
      redis.call("HSET", key, "task", id, "amount", int(amount), "state", "open")
      granted[hold] = true
      open[#open + 1] = int(ends)
      open[#open + 1] = hold
      unsent[#unsent + 1] = hold
      unsent[#unsent + 1] = 0
      held, more, spends[mid].more = held + amount, more + amount, spends[mid].more + amount
      note("spend.held", mid, id, { hold = hold, amount = amount })
      out[#out + 1] = { 1 }
    end
  end
end
if #open > 0 then
  all("ZADD", k.holds, open)
  all("HSET", k.sent, unsent)
  redis.call("HINCRBY", k.ledger, "held", int(more))
  for mid, s in pairs(spends) do
    if s.more > 0 then redis.call("HINCRBY", k.of_spend(mid), "held", int(s.more)) end
  end
end
write_log(k, ARGV[2], now)
if dirty then wake(k, "missions") end
return out
