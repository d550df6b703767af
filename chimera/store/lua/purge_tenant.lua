#!lua flags=allow-oom
-- Delete what a removed tenant left, a bounded batch at a time; resumes where it stopped. Its recorder stays, and the
-- mark that nothing of it is let in. What has a time of its own goes by that, and has no content: answers of
-- operations and idempotency keys (a day), holds that ended and workers (an hour).
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission whose tasks and actions go, and then itself; "" for what is of no mission
-- ARGV[2]   most tasks and actions to delete
-- Returns   how many are left of it; 0 nothing is, also when it was so before · -1 the tenant is not removed, or "" came
--           while missions are there: nothing was deleted
--- include keys
--- include clock
--- include ids
--- include unlink
local MOST_ROUNDS = 100
local k = keys(KEYS[1])
local marked = redis.call("HGET", k.quota, "suspended") or ""
if string.match(marked, "^%d+ (.*)$") ~= "removed" then return -1 end
local mid, most = ARGV[1], tonumber(ARGV[2])
if mid == "" then
  if redis.call("ZCARD", k.missions) > 0 then return -1 end
  for _, name in ipairs(redis.call("ZRANGE", k.subjects, 0, -1)) do redis.call("UNLINK", k.of_subject(name)) end
  for name, path in pairs(PLAIN_KEYS) do
    if name ~= "quota" and string.sub(path, 1, 2) ~= "r:" then redis.call("UNLINK", k[name]) end
  end
  return 0
end
local from = tonumber(redis.call("HGET", k.of_mission(mid), "pruned") or 0)
local tasks = redis.call("EXISTS", k.of_mission(mid)) == 1 and count_ids(k, mid) or 0
local left = unlink_batch(k, mid, from, most, tasks, function(id)
  -- Of every round: that a governor was asked to forget some does not say that it did.
  local last = tonumber(redis.call("HGET", k.of_task(id), "round") or 0)
  for round = math.max(0, last - MOST_ROUNDS), last do redis.call("UNLINK", k.of_kept(id .. "/" .. round)) end
end)
if left > 0 then return left end
redis.call("ZREM", k.missions, mid)
return 0
