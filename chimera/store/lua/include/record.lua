-- The flight recorder: note() collects transitions, write_log() appends them as one stream entry with
-- their range of sequence numbers. Call write_log() once, at a script's end.
-- The tally stands beside it: totals by kind, and what add_up() and took() say. What one call adds is written once.
local events, added = {}, {}
local function add_up(field, count) added[field] = (added[field] or 0) + count end
local function note(kind, mission, task, details)
  events[#events + 1] = { kind, mission, task, details or {} }
  added[kind] = (added[kind] or 0) + 1
end
-- Which bucket a time is in. The bounds are those of core/histogram.py; a test compares.
local BOUNDS_MS = { 5, 25, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000 }
local function bucket_of(ms)
  local bound = 1
  while BOUNDS_MS[bound] and ms > BOUNDS_MS[bound] do bound = bound + 1 end
  return bound
end
-- How long something took, ms. Workers may write what it is made of: what can be no time is not counted.
local MOST_MS = 1e11
local times = {} -- what -> bucket -> how many; and how long in all
local function took(what, ms)
  if not ms or not (ms >= 0 and ms <= MOST_MS) then return end
  ms = math.floor(ms)
  local t = times[what]
  if not t then t = { ms = 0 }; times[what] = t end
  local bucket = bucket_of(ms)
  t[bucket] = (t[bucket] or 0) + 1
  t.ms = t.ms + ms
end
-- The same since an instant, µs: a token is one, that of its claim.
local function took_since(what, from, now)
  from = from and tonumber(from)
  took(what, from and (now - from) / 1000)
end
local function write_log(k, by, now)
  if #events == 0 then return end
  local seq = redis.call("INCRBY", k.sequence, #events)
  redis.call("XADD", k.log, "*", "seq", int(seq), "at", int(now), "by", by, "events", cjson.encode(events))
  -- Numbers go as they are: what one call adds has few digits, and is whole.
  for what, t in pairs(times) do
    for part, count in pairs(t) do redis.call("HINCRBY", k.tally, what .. ":" .. part, count) end
  end
  for field, count in pairs(added) do redis.call("HINCRBY", k.tally, field, count) end
end
