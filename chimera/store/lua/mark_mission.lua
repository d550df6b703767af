#!lua flags=allow-oom
-- Mark a finished mission that is to be archived. Whatever changes it takes the mark off, so that what was read
-- under a mark that still stands is the mission as it is.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   the orchestrator's term
-- ARGV[3]   how long ago it must have ended at least, µs
-- Returns   {1, mark} since when it stands marked, µs: the same again while it does · {2, mark} it is archived, and to
--           be pruned further · {0} not now: it is not over, or not for so long, or something of it is still to be
--           done · {-2} there is no such mission; or -5 an older term
--- include keys
--- include clock
--- include record
--- include work
--- include term
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
if not hold_term(k, "orchestrator", tonumber(ARGV[2])) then return -5 end
local m = redis.call("HMGET", k.of_mission(mid), "status", "finished_at", "marked", "archived_at")
if not m[1] then
  redis.call("ZREM", k.finished, mid)
  return { -2 }
end
if m[4] then return { 2, m[4] } end
local function quiet()
  return redis.call("SISMEMBER", k.sweep, mid) == 0
    and redis.call("SISMEMBER", k.revive, mid) == 0
    and tonumber(redis.call("HGET", k.of_spend(mid), "held") or 0) == 0
    and tonumber(redis.call("HGET", k.of_outcomes(mid), "QUEUED") or 0) == 0
end
if not FINAL_MISSION[m[1]] or now - tonumber(m[2]) < tonumber(ARGV[3]) or not quiet() then return { 0 } end
local mark = m[3] or int(now)
redis.call("HSET", k.of_mission(mid), "marked", mark)
return { 1, mark }
