-- What was settled and what is held, by subject: the tenant ("ledger"), each agent and each model ("subject"), each
-- mission ("spend", without windows). Fields: "held", "settled:lifetime", "settled:day:2026-11-22" …, "calls".
-- Sums are gathered by owe() and written once by write_charges().
local KEEP_DAYS = { minute = 0.125, hour = 3, day = 400 } -- so long a window stays in its hash after its start
local sums, spends = {}, {} -- key of a subject -> field -> change · mission -> field -> change
local told, paid = {}, 0    -- what the fleet's ledger must hear: by minute · what may be covered by the allowance
local function owe(key, field, change)
  if change == 0 then return end
  local s = sums[key]
  if not s then s = {}; sums[key] = s end
  s[field] = (s[field] or 0) + change
end
-- Who pays for what was asked under an id: a task's mission, a mission itself, or "" for the tenant alone.
local function payer(id) return string.match(id, "^[^.]*") end
local function task_named(id) return string.find(id, ".", 1, true) and id or "" end
-- The keys that a call counts at, beside its mission's. Holds made by an older version name no agent and no model.
local function subjects_of(k, agent, model)
  local keys_ = { k.ledger }
  if agent and agent ~= "" then keys_[2] = k.of_subject("agent/" .. agent) end
  if model and model ~= "" then keys_[#keys_ + 1] = k.of_subject("model/" .. model) end
  return keys_
end
-- Charge a settled amount to every window of every subject and to the mission; give back what was held.
local function charge(mid, subjects, held, cost, c)
  spends[mid] = spends[mid] or {}
  local s = spends[mid]
  s.held = (s.held or 0) - held
  s.settled = (s.settled or 0) + cost
  if cost ~= 0 and not c.ids then
    c.ids = {}
    for i, window in ipairs(WINDOWS) do c.ids[i] = "settled:" .. window_id(window, c) end
  end
  for _, key in ipairs(subjects) do
    owe(key, "held", -held)
    if cost ~= 0 then
      for _, field in ipairs(c.ids) do owe(key, field, cost) end
    end
  end
  if cost ~= 0 then
    local minute = window_id("minute", c)
    told[minute] = (told[minute] or 0) + cost
    paid = paid + math.max(0, cost)
  end
end
-- Charge it to the call's task too (its key, and its status, spent, round, kept as just read); `kept`: it has a reply.
-- A task that was pruned stays so.
local worked = 0 -- charged for tasks, all together
local function charge_task(task, t, cost, kept)
  if not t[1] then return end
  worked = worked + cost
  local spent = int(tonumber(t[2] or 0) + cost)
  if kept and not t[4] then
    redis.call("HSET", task, "spent", spent, "kept", 1)
  elseif cost ~= 0 then
    redis.call("HSET", task, "spent", spent)
  end
end
-- Holds that ended are open no more.
local function close(k, holds)
  for i = 1, #holds, 1000 do
    redis.call("ZREM", k.holds, unpack(holds, i, math.min(i + 999, #holds)))
    redis.call("HDEL", k.sent, unpack(holds, i, math.min(i + 999, #holds)))
  end
end
-- Windows that nobody asks for any more leave their hash: looked for once an hour, when something is written there.
local function drop_old_windows(key, now)
  local hour = string.sub(window_id("hour", calendar(now)), 6)
  if redis.call("HGET", key, "looked") == hour then return end
  local from, old = {}, {}
  for window, days in pairs(KEEP_DAYS) do from[window] = window_id(window, calendar(now - days * 86400000000)) end
  for _, field in ipairs(redis.call("HKEYS", key)) do
    local id, window = string.match(field, "^settled:((%a+):.+)$")
    if from[window] and id < from[window] then old[#old + 1] = field end
  end
  for i = 1, #old, 1000 do redis.call("HDEL", key, unpack(old, i, math.min(i + 999, #old))) end
  redis.call("HSET", key, "looked", hour)
end
-- What the brake is decided on (weigh_burn.lua): every charge in the 5 s it was written in, corrections too.
local BURN_US = 5000000
local function write_burn(k, now)
  local spent = sums[k.ledger] and sums[k.ledger]["settled:lifetime"] or 0
  if spent == 0 and worked == 0 then return end
  local span = int(math.floor(now / BURN_US))
  redis.call("HINCRBY", k.burn, span, int(spent))
  if worked ~= 0 then redis.call("HINCRBY", k.burn, span .. ":t", int(worked)) end
  redis.call("EXPIRE", k.burn, 14400)
end
-- A mission that was archived keeps the figures it was archived with: only the subjects' windows move then.
local function write_charges(k, now)
  write_burn(k, now)
  for key, fields in pairs(sums) do
    for field, change in pairs(fields) do redis.call("HINCRBY", key, field, int(change)) end
    drop_old_windows(key, now)
  end
  for mid, fields in pairs(spends) do
    local spend = k.of_spend(mid)
    if mid ~= "" and redis.call("EXISTS", spend) == 1 then
      for field, change in pairs(fields) do
        if change ~= 0 then redis.call("HINCRBY", spend, field, int(change)) end
      end
    end
  end
  if next(told) then
    local covered = math.min(paid, tonumber(redis.call("HGET", k.purse, "allowance") or 0))
    if covered > 0 then
      redis.call("HINCRBY", k.purse, "allowance", int(-covered))
      redis.call("HINCRBY", k.purse, "covered", int(covered))
    end
    for minute, change in pairs(told) do
      if change ~= 0 then redis.call("HINCRBY", k.purse, "told:" .. minute, int(change)) end
    end
  end
end
