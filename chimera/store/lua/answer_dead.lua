#!lua flags=allow-oom
-- Somebody's word on dead letters: they are tried again, or dropped and never delivered. Each is an event.
-- KEYS[1]   the tenant's root
-- ARGV[1]   operation id: the same again changes nothing
-- ARGV[2]   who
-- ARGV[3]   word: retry | drop
-- ARGV[4]   reason, in words, or ""
-- ARGV[5..] ids of events; "*": every one
-- Returns   how many it was said of
--- include keys
--- include clock
--- include record
--- include operation
local k = keys(KEYS[1])
local op, before = operation(k, "dead", ARGV[3], ARGV[1])
if before then return before end
local ids = {}
for i = 5, #ARGV do ids[#ids + 1] = ARGV[i] end
if ids[1] == "*" then ids = redis.call("HKEYS", k.dead) end
local count = 0
for _, id in ipairs(ids) do
  local letter = redis.call("HGET", k.dead, id)
  local fresh = letter and (ARGV[3] == "drop" or redis.call("SISMEMBER", k.again, id) == 0)
  if fresh then
    count = count + 1
    local about = cjson.decode(letter)
    local details = { id = id, kind = about.kind, reason = ARGV[4] ~= "" and ARGV[4] or nil }
    if ARGV[3] == "drop" then
      redis.call("HDEL", k.dead, id)
      redis.call("SREM", k.again, id)
      note("export.dropped", about.mission_id, about.task_id, details)
    else
      redis.call("SADD", k.again, id)
      note("export.retried", about.mission_id, about.task_id, details)
    end
  end
end
write_log(k, ARGV[2], now_us())
return conclude(op, count)
