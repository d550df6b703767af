#!lua flags=allow-oom
-- Holds that ran out: charged at their worst case when their call may have been sent, else released.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   the governor
-- ARGV[3]   most holds
-- Returns   how many expired; or -5 an older term
--- include keys
--- include clock
--- include record
--- include work
--- include term
--- include windows
--- include ledger
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local c = calendar(now)
local due = redis.call("ZRANGEBYSCORE", k.holds, "-inf", int(now), "LIMIT", 0, ARGV[3])
for _, hold in ipairs(due) do
  local h = redis.call("HMGET", k.of_hold(hold), "task", "amount", "agent", "model")
  local amount = tonumber(h[2])
  local sent = redis.call("HGET", k.sent, hold) ~= "0"
  local cost = sent and amount or 0
  local subjects = subjects_of(k, h[3], h[4])
  charge(payer(h[1]), subjects, amount, cost, c)
  if sent then
    for _, subject in ipairs(subjects) do owe(subject, "calls", 1) end
  end
  local task = k.of_task(h[1])
  charge_task(task, redis.call("HMGET", task, "status", "spent"), cost)
  redis.call("HSET", k.of_hold(hold), "state", "expired", "cost", int(cost), "expired_at", int(now))
  redis.call("EXPIRE", k.of_hold(hold), 3600)
  note("spend.expired", payer(h[1]), task_named(h[1]), { hold = hold, cost = cost, sent = sent })
end
close(k, due)
write_charges(k, now)
write_log(k, ARGV[2], now)
return #due
