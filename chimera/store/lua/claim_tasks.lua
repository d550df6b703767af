#!lua flags=allow-oom
-- Claim READY tasks under leases: high priority first, missions in turn.
-- KEYS[1]   the tenant's root
-- ARGV[1]   worker
-- ARGV[2]   claim id: the same id again gives the same tasks, for the reply may have been lost
-- ARGV[3]   lease, µs
-- ARGV[4]   most tasks of any priority
-- ARGV[5]   most tasks of high priority, express slots included (>= ARGV[4])
-- ARGV[6]   most leases to rescue on the way
-- ARGV[7]   deaths alone that make a task poisoned
-- ARGV[8]   the worker's slots
-- ARGV[9]   most tasks under lease of a tenant without a quota of its own; 0: no bound
-- Returns   {now_us, tasks}; a task is
--           {id, token, attempt, expires_us, mission, state_version, stage, input, depends_on, feedback,
--           round}; a round is what rejections and redrives part
--- include keys
--- include clock
--- include record
--- include work
--- include pulse
--- include suspect
--- include rescue
local k = keys(KEYS[1])
local now = now_us()
local worker, lease = ARGV[1], tonumber(ARGV[3])
local out = {}
local function hand_out(id, token, attempt, expires, feedback, round)
  local s = redis.call("HMGET", k.of_spec(id), "stage", "input", "depends_on")
  local mid = mission_of(id)
  out[#out + 1] = { id, token, int(attempt), expires, mid, mission(k, mid).version, s[1], s[2], s[3],
    feedback or "[]", round or "0" }
end

local last = redis.call("HMGET", k.of_worker(worker), "claim", "claimed")
if last[1] == ARGV[2] then
  for id, token in string.gmatch(last[2] or "", "([^ ]+)=([^ ]+)") do
    local t = redis.call("HMGET", k.of_task(id), "status", "token", "attempt", "feedback", "round")
    if t[1] == "PENDING" and t[2] == token then
      hand_out(id, token, t[3], redis.call("ZSCORE", k.leases, id), t[4], t[5])
    end
  end
  return { int(now), out }
end

-- An agent with its worker's login may ask for any number, and put anything into the lists: that holds up nobody else.
local MOST, MOST_RESCUED = 1000, 100
rescue(k, now, math.min(tonumber(ARGV[6]), MOST_RESCUED), tonumber(ARGV[7]), lease)
promote(k, now, 100)

local APART_US = 250000
local names, leases, expires = {}, {}, int(now + lease)
local function take(set, most)
  local got, visits, seen = 0, 0, 0
  while got < most and visits < 4 * most + 64 and seen < 4 * most + 64 do
    visits = visits + 1
    local mid = redis.call("ZRANGE", set, 0, 0)[1]
    if not mid then break end
    local m = mission(k, mid)
    local quantum = math.max(1, math.ceil((most - got) / redis.call("ZCARD", set)))
    local ids = (m.status == "RUNNING" or m.status == "WAITING_REVIEW")
      and redis.call("LPOP", k.of_ready(mid), quantum) or nil
    if not ids then
      redis.call("ZREM", set, mid)
    else
      seen = seen + #ids
      for _, id in ipairs(ids) do
        local t = redis.call("HMGET", k.of_task(id), "status", "token", "attempt", "deaths", "feedback", "round")
        local deaths = tonumber(t[4] or 0)
        if t[1] == "READY" and not may_join(k, worker, tonumber(ARGV[8]), deaths) then
          -- Enough suspects here: another worker may take it, or this one in a moment.
          make_ready_later(k, id, now + APART_US)
        elseif t[1] == "READY" then
          join(k, worker, id, deaths)
          local token = int(math.max((tonumber(t[2]) or 0) + 1, now))
          local attempt = (tonumber(t[3]) or 0) + 1
          move(k, id, mid, "READY", "PENDING", "token", token, "attempt", attempt, "worker", worker,
            "claimed_at", int(now))
          leases[#leases + 1] = expires
          leases[#leases + 1] = id
          note("task.claimed", mid, id, { attempt = attempt })
          names[#names + 1] = id .. "=" .. token
          hand_out(id, token, attempt, expires, t[5], t[6])
          got = got + 1
        end
      end
      -- Behind the missions that wait: turns go round.
      if redis.call("LLEN", k.of_ready(mid)) == 0 then redis.call("ZREM", set, mid)
      else redis.call("ZADD", set, int(rank(m, now) + visits), mid) end
    end
  end
  return got
end
local most, most_high = math.min(tonumber(ARGV[4]), MOST), math.min(tonumber(ARGV[5]), MOST)
local bounds = redis.call("HMGET", k.quota, "max_agents", "suspended")
local quota, suspended = tonumber(bounds[1] or ARGV[9]), bounds[2]
if suspended then
  most, most_high = 0, 0
elseif quota > 0 then
  local room = math.max(0, quota - redis.call("ZCARD", k.leases))
  most_high = math.min(most_high, room)
  -- The last place is for high priority: other work would keep it waiting there.
  most = math.min(most, quota > 1 and room - 1 or room)
end
-- Workers of one slot have no express slot: one of them stays free of ordinary work, where there are two.
local function last_of_its_kind()
  local workers = redis.call("ZCOUNT", k.workers, int(now), "+inf")
  local needed = redis.call("ZCARD", k.leases) - workers + 2
  if workers < 2 or needed <= 0 then return false end
  for _, id in ipairs(redis.call("ZRANGE", k.leases, 0, -1)) do
    if mission(k, mission_of(id)).priority == "high" then needed = needed - 1 end
    if needed <= 0 then return false end
  end
  return true
end
local high = take(k.high, most_high)
if tonumber(ARGV[8]) == 1 and most > high and last_of_its_kind() then most = high end
take(k.normal, math.min(most, most_high - high))

all("ZADD", k.leases, leases)
redis.call("HSET", k.of_worker(worker), "claim", ARGV[2], "claimed", table.concat(names, " "))
redis.call("EXPIRE", k.of_worker(worker), 3600)
write_counts(k)
-- There is more than this worker could take: wake the next. One that could take nothing passes on what woke it,
-- now and then: it may be the only one, full of ordinary work, and would wake itself over and over.
local PASS_ON_US = 250000
if woken == 0 and not suspended and redis.call("ZCARD", k.high) + redis.call("ZCARD", k.normal) > 0 then
  local passed = redis.call("HGET", k.of_worker(worker), "passed")
  if #out > 0 then woken = 1
  elseif not (passed and now - tonumber(passed) < PASS_ON_US) then
    redis.call("HSET", k.of_worker(worker), "passed", int(now))
    woken = 1
  end
end
ring(k)
write_log(k, worker, now)
return { int(now), out }
