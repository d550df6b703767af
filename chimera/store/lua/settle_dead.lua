#!lua flags=allow-oom
-- What came of a dead letter that was tried again: delivered, it goes; else it waits for a word again. One that was
-- dropped meanwhile does not come back.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the orchestrator's term
-- ARGV[2]   the event's id
-- ARGV[3]   the dead letter as JSON; "" when it was delivered
-- Returns   1 settled, also when it is no more · -5 an older term
--- include keys
--- include clock
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
redis.call("SREM", k.again, ARGV[2])
if ARGV[3] == "" then
  redis.call("HDEL", k.dead, ARGV[2])
elseif redis.call("HEXISTS", k.dead, ARGV[2]) == 1 then
  redis.call("HSET", k.dead, ARGV[2], ARGV[3])
end
return 1
