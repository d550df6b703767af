#!lua flags=allow-oom
-- Give FAILED actions a fresh set of tries, under the key that they had. Others are left as they are.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   operation id: the same again changes nothing
-- ARGV[3]   who asks
-- ARGV[4..] stride 1: action id
-- Returns   actions queued again, the same again for the same operation · -2 there is no such mission (any more)
--- include keys
--- include clock
--- include record
--- include work
--- include outbox
--- include operation
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
local op, before = operation(k, "retry", mid, ARGV[2])
if before then return before end
local v = redis.call("HMGET", k.of_mission(mid), "status", "archived_at")
if not v[1] or v[2] then return -2 end
local retried = 0
for i = 4, #ARGV, 1 do
  local id = ARGV[i]
  if mission_of(id) == mid and redis.call("HGET", k.of_action(id), "status") == "FAILED" then
    local task, index = parts_of(id)
    turn(k, id, "FAILED", "QUEUED", "tries", 0)
    redis.call("HDEL", k.of_action(id), "finished_at")
    redis.call("ZADD", k.outbox, int(now), id)
    note("action.retried", mid, task, { index = index, tries = 0 })
    retried = retried + 1
  end
end
write_log(k, ARGV[3], now)
if retried > 0 then
  redis.call("HDEL", k.of_mission(mid), "marked")
  wake(k, "errands")
end
return conclude(op, retried)
