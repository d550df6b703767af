#!lua flags=allow-oom
-- Look whether a block of a large mission's tasks may leave Redis.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   number of the block's first task
-- ARGV[3]   number behind its last
-- ARGV[4]   how long ago the last of them must have ended, µs
-- Returns   {1, ids} those that are accepted · {0} something of it is under way, or was a moment ago
--- include keys
--- include clock
local k = keys(KEYS[1])
local quiet = now_us() - tonumber(ARGV[4])
local ids = {}
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) - 1 do
  local id = ARGV[1] .. "." .. int(number)
  local t = redis.call("HMGET", k.of_task(id), "status", "finished_at")
  if t[1] == "BLOCKED" or t[1] == "READY" or t[1] == "PENDING" or t[1] == "REVIEW" then return { 0 } end
  if tonumber(t[2] or 0) > quiet then return { 0 } end
  if t[1] == "ACCEPTED" then ids[#ids + 1] = id end
end
return { 1, ids }
