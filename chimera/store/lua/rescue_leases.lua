-- Give back to work what silent workers held, forget them, and promote what waited for its time.
-- KEYS[1]   the tenant's root
-- ARGV[1]   who rescues
-- ARGV[2]   most of each kind
-- ARGV[3]   crashes that make a task poisoned
-- Returns   {tasks rescued, workers forgotten, tasks promoted}
--- include keys
--- include clock
--- include record
--- include work
--- include rescue
local k = keys(KEYS[1])
local now = now_us()
local most = tonumber(ARGV[2])
local rescued = rescue(k, now, most, tonumber(ARGV[3]))
local promoted = promote(k, now, most)
-- After the rescue: it asked whether they beat.
local gone = redis.call("ZRANGEBYSCORE", k.workers, "-inf", int(now), "LIMIT", 0, most)
for _, worker in ipairs(gone) do
  redis.call("ZREM", k.workers, worker)
  note("worker.ended", "", "", { worker = worker, reason = "silent" })
end
-- Reviews of a silent judge go to the next claim: wake a judge.
if redis.call("ZCOUNT", k.judging, "-inf", int(now)) > 0 then wake_hub(k) end
write_counts(k)
ring(k)
write_log(k, ARGV[1], now)
return { rescued, #gone, promoted }
