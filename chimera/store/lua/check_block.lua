#!lua flags=allow-oom
-- Look whether a block of a large mission's tasks may leave Redis.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   number of the block's first task
-- ARGV[3]   number behind its last
-- ARGV[4]   how long ago a task must have ended, µs: before, it counts as under way
-- ARGV[5]   how many may be under way
-- Returns   {1, ids of those that are accepted and may leave, how many others are here} · {0} more are under way
--- include keys
--- include clock
local k = keys(KEYS[1])
local quiet = now_us() - tonumber(ARGV[4])
local ids, others, busy = {}, 0, 0
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) - 1 do
  local id = ARGV[1] .. "." .. int(number)
  local t = redis.call("HMGET", k.of_task(id), "status", "finished_at")
  local open = t[1] == "BLOCKED" or t[1] == "READY" or t[1] == "PENDING" or t[1] == "REVIEW"
  if open or tonumber(t[2] or 0) > quiet then
    busy = busy + 1
    if busy > tonumber(ARGV[5]) then return { 0 } end
    others = others + 1
  elseif t[1] == "ACCEPTED" then
    ids[#ids + 1] = id
  elseif t[1] then
    others = others + 1
  end
end
return { 1, ids, others }
