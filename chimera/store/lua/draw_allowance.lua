#!lua flags=allow-oom
-- A tenant draws on the fleet's limits, first step of two: what it may spend is held here until it is told what became
-- of it. The check: settled in the window + held + drawn <= limit, for every window. Every tenant has one draw at a time:
-- a draw that may not have arrived is given again, whatever is asked for.
-- KEYS[1]   the fleet's root
-- ARGV[1]   the governor's term
-- ARGV[2]   tenant
-- ARGV[3]   µ$ that it needs
-- ARGV[4]   the least that helps it
-- ARGV[5]   more, that saves it the next draw: given where the fleet has plenty
-- ARGV[6]   "1" draws what is needed over any limit: it is held by the tenant already
-- Returns   {number, drawn}: `drawn` is 0 where nothing could be; then, and whenever it is less than needed,
--           {number, drawn, kind, level, limit, settled, held, retry_after_s}; or -5 an older term
--- include keys
--- include clock
--- include term
--- include windows
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local d = redis.call("HMGET", k.of_draw(ARGV[2]), "number", "amount", "open")
if d[3] == "1" then return { tonumber(d[1]), d[2] } end
local need, least, more = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local c = calendar(now)
local held = tonumber(redis.call("HGET", k.ledger, "held") or 0)
local set = redis.call("HMGET", k.limits, unpack(WINDOWS))
local fits, refused = math.huge, nil
for n, window in ipairs(WINDOWS) do
  if set[n] then
    local limit = tonumber(set[n])
    local settled = tonumber(redis.call("HGET", k.ledger, "settled:" .. window_id(window, c)) or 0)
    fits = math.min(fits, limit - settled - held)
    if settled + held + need > limit then
      local kind = kind_of(least, window, limit, settled)
      if not refused or (kind == "exhausted" and refused[1] ~= "exhausted") then
        refused = { kind, "fleet/" .. window, int(limit), int(settled), int(held),
          int(kind == "window" and resets_in(window, c) or 0) }
      end
    end
  end
end
local drawn = need
if ARGV[6] ~= "1" then
  drawn = math.min(need, fits)
  if drawn < least then drawn = 0
  elseif drawn == need then drawn = need + math.min(more, math.max(0, math.floor((fits - need) / 16))) end
else
  refused = nil
end
local number = tonumber(d[1] or 0)
if drawn > 0 then
  number = number + 1
  redis.call("HSET", k.of_draw(ARGV[2]), "number", number, "amount", int(drawn), "open", 1)
  redis.call("ZADD", k.draws, int(now), ARGV[2])
  redis.call("HINCRBY", k.ledger, "held", int(drawn))
end
if not refused then return { number, int(drawn) } end
return { number, int(drawn), unpack(refused) }
