#!lua flags=allow-oom
-- A courier reports what came of its tries. Only the one that holds an action may.
-- KEYS[1]   the tenant's root
-- ARGV[1]   courier
-- ARGV[2..] stride 5: action id, token, outcome (done | retry | failed), delay before it is tried again (µs),
--           the last answer in words
-- Returns   per action, the same again for the same token: 1 written · -1 the lease is lost
--- include keys
--- include clock
--- include record
--- include work
--- include outbox
local k = keys(KEYS[1])
local now = now_us()
local out = {}
for i = 2, #ARGV, 5 do
  local id, token, outcome, answer = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 4]
  local a = redis.call("HMGET", k.of_action(id), "status", "token", "reported")
  if a[3] == token then
    out[#out + 1] = 1
  elseif a[1] ~= "QUEUED" or a[2] ~= token then
    out[#out + 1] = -1
  else
    local task, index = parts_of(id)
    local tries = redis.call("HINCRBY", k.of_action(id), "tries", 1)
    redis.call("HSET", k.of_action(id), "reported", token, "answer", answer)
    redis.call("HDEL", k.of_action(id), "courier")
    local details = { index = index, tries = tries, answer = answer }
    if outcome == "retry" then
      redis.call("ZADD", k.outbox, int(now + tonumber(ARGV[i + 3])), id)
      note("action.retried", mission_of(id), task, details)
    else
      redis.call("ZREM", k.outbox, id)
      if outcome == "done" then
        turn(k, id, "QUEUED", "DONE", "finished_at", int(now))
        note("action.done", mission_of(id), task, details)
      else
        turn(k, id, "QUEUED", "FAILED", "finished_at", int(now))
        note("action.failed", mission_of(id), task, details)
      end
    end
    out[#out + 1] = 1
  end
end
write_log(k, ARGV[1], now)
return out
