#!lua flags=allow-oom
-- Give back to work what silent workers held, forget them, and promote what waited for its time.
-- Nothing is rescued for one lease after the store was out of reach (include/pulse.lua).
-- KEYS[1]   the tenant's root
-- ARGV[1]   who rescues
-- ARGV[2]   most of each kind
-- ARGV[3]   deaths alone that make a task poisoned
-- ARGV[4]   a lease, µs
-- ARGV[5]   since when the caller has heard the store steadily, µs by the store's clock; "" when it does not know
-- ARGV[6]   when it heard the store last, µs
-- Returns   {tasks rescued, workers forgotten, tasks promoted, now_us}
--- include keys
--- include clock
--- include record
--- include work
--- include pulse
--- include suspect
--- include rescue
local k = keys(KEYS[1])
local now = now_us()
local most = tonumber(ARGV[2])
local rescued = rescue(k, now, most, tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
local promoted = promote(k, now, most)
-- After the rescue: it asked whether they beat.
local gone = rescued < 0 and {} or redis.call("ZRANGEBYSCORE", k.workers, "-inf", int(now), "LIMIT", 0, most)
for _, worker in ipairs(gone) do
  redis.call("ZREM", k.workers, worker)
  note("worker.ended", "", "", { worker = worker, reason = "silent" })
end
-- Reviews of a silent judge go to the next claim: wake a judge.
if redis.call("ZCOUNT", k.judging, "-inf", int(now)) > 0 then wake(k, "reviews") end
write_counts(k)
ring(k)
write_log(k, ARGV[1], now)
return { math.max(0, rescued), #gone, promoted, int(now) }
