#!lua flags=allow-oom
-- Take from a tenant what it may do, if no work of it is open. What it did stays, and its recorder.
-- KEYS[1]   the tenant's root
-- ARGV[1]   operation id: the same again changes nothing
-- ARGV[2]   who does it
-- ARGV[3]   why, in words
-- ARGV[4]   1 only to look
-- Returns   {1} done, also when it was before · {0, missions, tasks, holds, actions} so much is open; nothing was changed
--- include keys
--- include clock
--- include record
--- include operation
local k = keys(KEYS[1])
local op, before = operation(k, "remove", "", ARGV[1])
if before then return { 1 } end
local missions = redis.call("ZCARD", k.active) + redis.call("EXISTS", k.sweep)
local tasks = redis.call("ZCARD", k.leases) + redis.call("ZCARD", k.judging)
local holds, actions = redis.call("ZCARD", k.holds), redis.call("ZCARD", k.outbox)
-- What it drew of the fleet's ledger goes back by itself, and what it spent is told there, as long as the governor
-- looks after it.
local drawn = redis.call("HMGET", k.purse, "allowance", "parcel", "covered")
if tonumber(drawn[1] or 0) > 0 or drawn[2] or tonumber(drawn[3] or 0) > 0 then holds = holds + 1 end
if missions + tasks + holds + actions > 0 then return { 0, missions, tasks, holds, actions } end
if ARGV[4] == "1" then return { 1 } end
redis.call("DEL", k.quota, k.stated, (operation(k, "tenant.added", "", "added")))
if redis.call("DEL", k.limits) == 1 then
  note("limits.set", "", "", { limits = {}, reason = ARGV[3], raised = 1 }) -- under its name there are none from now on
end
-- What was let in before its keys went is submitted no more.
redis.call("HSET", k.quota, "suspended", int(now_us()) .. " removed")
note("tenant.removed", "", "", { reason = ARGV[3] })
write_log(k, ARGV[2], now_us())
conclude(op, 1)
return { 1 }
