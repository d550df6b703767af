#!lua flags=allow-oom
-- Reserve the worst case of paid calls: every level at once, all or nothing, never over a limit.
-- The check at each level: settled in its window + all held + amount <= limit. Levels are the mission's budget, the
-- limits of the tenant, of the call's agent and of its model, and what the tenant drew from the fleet's ledger.
-- After a call to a model that cost more than was held for it, as much more is held for those that follow.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   the governor
-- ARGV[3]   the fleet's ledger: "" it has no limit · "ask" refuse none for it · else what it refuses for:
--           "kind level limit settled held retry_after_s"
-- ARGV[4..] stride 7: hold id, payer, token, amount (µ$), life (µs), agent, model. The payer is a task (token: a worker's
--           lease or a judge's review), or a mission that is not final, or "": the tenant alone
-- Returns   per hold: {1} granted, also when asked again · {-1, holder, since_ms, status} the lease is lost, or the
--           mission is final · {-7, kind, level, limit, settled, held, retry_after_s, fits} refused; `fits`: what every
--           level would grant · {-10, amount, held beyond the allowance} the fleet's ledger must be asked;
--           or -5 an older term
--- include keys
--- include clock
--- include record
--- include work
--- include term
--- include windows
--- include ledger
--- include braked
--- include flags
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local by, fleet = ARGV[2], ARGV[3]
local c = calendar(now)
local c_fields = {}
for n, window in ipairs(WINDOWS) do c_fields[n] = "settled:" .. window_id(window, c) end

-- A subject with its limits. What of this call's holds counts already stands in `held`; it is written at the end.
local own_only = true -- no agent and no model has a limit
local function subject(key, level, prefix, limited)
  local s = { key = key, held = 0, more = 0, limits = {} }
  local set = limited and redis.call("HMGET", k.limits, unpack(prefix)) or {}
  local fields = { "held" }
  for n, window in ipairs(WINDOWS) do
    if set[n] then
      s.limits[#s.limits + 1] = { window = window, level = level .. "/" .. window, limit = tonumber(set[n]) }
      fields[#fields + 1] = c_fields[n]
    end
  end
  if #s.limits > 0 or fleet ~= "" then
    local figures = redis.call("HMGET", key, unpack(fields))
    s.held = tonumber(figures[1] or 0)
    for n, l in ipairs(s.limits) do l.settled = tonumber(figures[n + 1] or 0) end
  end
  return s
end
local tenant = subject(k.ledger, "tenant", WINDOWS, true)
own_only = redis.call("HLEN", k.limits) == #tenant.limits

-- An agent or a model by name. Beyond two thousand of both, those without a limit count together.
local MOST_SUBJECTS, OTHERS = 2000, "(others)"
local named = {}
local function by_name(kind, name)
  if name == "" then return nil end
  local level = kind .. "/" .. name
  if named[level] ~= nil then return named[level] end
  local prefix = {}
  for n, window in ipairs(WINDOWS) do prefix[n] = level .. "/" .. window end
  local s = subject(k.of_subject(level), level, prefix, not own_only)
  s.name = name
  if redis.call("ZADD", k.subjects, int(now), level) == 1 and #s.limits == 0 and name ~= OTHERS
    and redis.call("ZCARD", k.subjects) > MOST_SUBJECTS then
    redis.call("ZREM", k.subjects, level)
    s = by_name(kind, OTHERS)
  end
  named[level] = s
  return s
end
-- What is held for a call, by what its model's calls cost lately: parts of a million.
local function factor_of(s)
  if not s.factor then
    local f = redis.call("HMGET", s.key, "factor", "factor_until")
    s.factor = f[1] and now < tonumber(f[2]) and tonumber(f[1]) or 1000000
  end
  return s.factor
end

local budgets = {}
local function budget(mid)
  if not budgets[mid] then
    local s = redis.call("HMGET", k.of_spend(mid), "settled", "held")
    local m = redis.call("HMGET", k.of_mission(mid), "budget", "status")
    budgets[mid] = { settled = tonumber(s[1] or 0), held = tonumber(s[2] or 0), more = 0, status = m[2] or "",
      limit = tonumber(m[1] or 0), level = "mission", window = "lifetime" }
  end
  return budgets[mid]
end

local suspended = redis.call("HGET", k.quota, "suspended")
-- The first level that refuses, the hopeless kind before the others; and what all of them would grant.
local found, fits
local function look(amount, l, held)
  fits = math.min(fits, l.limit - l.settled - held)
  if l.settled + held + amount <= l.limit then return end
  local kind = kind_of(amount, l.window, l.limit, l.settled)
  if not found or (kind == "exhausted" and found[2] ~= "exhausted") then
    found = { -7, kind, l.level, int(l.limit), int(l.settled), int(held),
      int(kind == "window" and resets_in(l.window, c) or 0) }
  end
end
local short = false -- after the first, all are: what they need together is known then
local allowance = fleet ~= "" and tonumber(redis.call("HGET", k.purse, "allowance") or 0) or 0
local function refusal(mid, amount, subjects, factor)
  found, fits = nil, math.huge
  if suspended then return { -7, "window", "tenant/suspended", "0", "0", "0", "10", "0" } end
  if mid ~= "" then look(amount, budget(mid), budget(mid).held + budget(mid).more) end
  for _, s in ipairs(subjects) do
    for _, l in ipairs(s.limits) do look(amount, l, s.held + s.more) end
  end
  if fleet ~= "" and not found then
    local beyond = tenant.held + tenant.more + amount - allowance
    if (beyond > 0 or short) and fleet == "ask" then
      short = true
      return { -10, int(amount), int(beyond) }
    end
    if beyond > 0 then
      local kind, level, limit, settled, held, retry = string.match(fleet, "^(%S+) (%S+) (%d+) (%d+) (%d+) (%d+)$")
      found = { -7, kind, level, limit, settled, held, retry }
      fits = math.min(fits, allowance - tenant.held - tenant.more)
    end
  end
  if found then
    -- In the caller's terms: what fits once it is enlarged.
    if factor ~= 1000000 then fits = math.floor(fits * 1000000 / factor) end
    found[8] = int(math.max(0, fits))
  end
  return found
end

local dirty, out = false, {}
-- Every refusal passes here.
local function refuse(hold, mid, id, answer, amount, agent, model)
  local kind, level = answer[2], answer[3]
  flag(kind, level, mid, amount, tonumber(answer[4]), tonumber(answer[8]))
  add_up("refused:" .. kind, 1)
  note("spend.refused", mid, task_named(id), { kind = kind, level = level, amount = amount, hold = hold,
    agent = agent, model = model })
  if task_named(id) ~= "" then
    -- Why the task waits (store/waiting.py): kind, level, limit, settled, held, amount, the window's reset, now.
    local resets = answer[7] == "0" and 0 or now + tonumber(answer[7]) * 1000000
    redis.call("HSET", k.of_task(id), "refused", table.concat({ kind, level, answer[4], answer[5], answer[6],
      int(amount), int(resets), int(now) }, " "))
  end
  if kind == "exhausted" and level == "mission" then
    -- For this budget: under a larger one it may go on.
    redis.call("HSET", k.of_spend(mid), "exhausted", int(budget(mid).limit), "wanted", int(amount))
    mark_dirty(k, mid)
    dirty = true
  end
  return answer
end

-- Whether the asker may ask: {} when it may, else who holds the task now, since when, and its status.
local function lost(id, token)
  if id == "" then return nil end
  if task_named(id) == "" then
    local status = budget(id).status
    if status ~= "" and not FINAL_MISSION[status] then return nil end
    return { -1, "", "0", status }
  end
  local t = redis.call("HMGET", k.of_task(id), "status", "token", "judge_token", "worker", "claimed_at")
  if (t[1] == "PENDING" and t[2] == token) or (t[1] == "REVIEW" and t[3] == token) then return nil end
  local held = t[1] == "PENDING"
  return { -1, held and t[4] or "", held and int(math.floor(tonumber(t[5]) / 1000)) or "0", t[1] or "" }
end

-- Nearly always none of these holds is there: one question for all of them.
local names = {}
for i = 4, #ARGV, 7 do names[#names + 1] = k.of_hold(ARGV[i]) end
local repeats = false
for i = 1, #names, 1000 do
  repeats = redis.call("EXISTS", unpack(names, i, math.min(i + 999, #names))) > 0 or repeats
end
local open, unsent, granted = {}, {}, {}
for i = 4, #ARGV, 7 do
  local hold, id, amount = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 3])
  local key = names[(i + 3) / 7]
  if granted[hold] or repeats and redis.call("EXISTS", key) == 1 then
    out[#out + 1] = { 1 }
  else
    local away = lost(id, ARGV[i + 2])
    if away then
      out[#out + 1] = away
    else
      local mid, agent, model = payer(id), by_name("agent", ARGV[i + 5]), by_name("model", ARGV[i + 6])
      local agent_name, model_name = agent and agent.name or "", model and model.name or ""
      local subjects = { tenant }
      if agent then subjects[2] = agent end
      if model then
        subjects[#subjects + 1] = model
        amount = math.ceil(amount * factor_of(model) / 1000000)
      end
      local refused = braked(k, mid, now) or refusal(mid, amount, subjects, model and model.factor or 1000000)
      if refused and refused[1] == -10 then
        out[#out + 1] = refused
      elseif refused then
        out[#out + 1] = refuse(hold, mid, id, refused, amount, agent_name, model_name)
      else
        redis.call("HSET", key, "task", id, "amount", int(amount), "state", "open", "agent", agent_name,
          "model", model_name)
        if model and model.factor ~= 1000000 then redis.call("HSET", key, "factor", int(model.factor)) end
        granted[hold] = true
        open[#open + 1] = int(now + tonumber(ARGV[i + 4]))
        open[#open + 1] = hold
        unsent[#unsent + 1] = hold
        unsent[#unsent + 1] = 0
        for _, s in ipairs(subjects) do s.more = s.more + amount end
        if mid ~= "" then budget(mid).more = budget(mid).more + amount end
        note("spend.held", mid, task_named(id), { hold = hold, amount = amount, agent = agent_name, model = model_name })
        out[#out + 1] = { 1 }
      end
    end
  end
end
if #open > 0 then
  all("ZADD", k.holds, open)
  all("HSET", k.sent, unsent)
  local function hold_at(key, more)
    if more > 0 then redis.call("HINCRBY", key, "held", int(more)) end
  end
  hold_at(tenant.key, tenant.more)
  for _, s in pairs(named) do
    hold_at(s.key, s.more)
    s.more = 0 -- several names may stand for one subject
  end
  for mid, b in pairs(budgets) do hold_at(k.of_spend(mid), b.more) end
end
write_flags(k, now)
write_log(k, by, now)
if dirty then wake(k, "missions") end
return out
