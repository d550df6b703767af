#!lua flags=allow-oom
-- Take accepted tasks of a large mission out of Redis: they lie in files that are written, whole and durable. All of
-- them, or none: what changed since it was read is not in the files.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   the orchestrator's term
-- ARGV[3]   number of the first task of the block they are of
-- ARGV[4]   SHA-256 of all lines of the files
-- ARGV[5]   who shelves
-- ARGV[6]   names of the files, space between
-- ARGV[7..] stride 2: task id, what was spent on it when it was read
-- Returns   tasks shelved, also when they were just before · -1 one of them is not as it was read ·
--           -2 there is no such mission (any more); or -5 an older term
--- include keys
--- include clock
--- include record
--- include term
local k = keys(KEYS[1])
local mid = ARGV[1]
if not hold_term(k, "orchestrator", tonumber(ARGV[2])) then return -5 end
local m = redis.call("HMGET", k.of_mission(mid), "large", "archived_at")
if not m[1] or m[2] then return -2 end
local count = (#ARGV - 6) / 2
local first = string.match(ARGV[6], "[^ ]+")
if redis.call("ZSCORE", k.of_shelf(mid), first) then return count end
for i = 7, #ARGV, 2 do
  local t = redis.call("HMGET", k.of_task(ARGV[i]), "status", "spent")
  if t[1] ~= "ACCEPTED" or (t[2] or "0") ~= ARGV[i + 1] then return -1 end
end
for i = 7, #ARGV, 2 do
  local id = ARGV[i]
  redis.call("UNLINK", k.of_spec(id), k.of_task(id), k.of_verdicts(id), k.of_commit(id))
end
for name in string.gmatch(ARGV[6], "[^ ]+") do redis.call("ZADD", k.of_shelf(mid), ARGV[3], name) end
redis.call("HINCRBY", k.of_mission(mid), "shelved", count)
note("mission.shelved", mid, "", { tasks = count, from = tonumber(ARGV[3]), sha256 = ARGV[4] })
write_log(k, ARGV[5], now_us())
return count
