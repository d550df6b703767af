#!lua
-- Acknowledge a mission, with its state document at version 1: PLANNING; or planned in this very step, and RUNNING.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   digest of the idempotency key, or ""
-- ARGV[3]   digest of the request, compared when the idempotency key comes again
-- ARGV[4]   who submits
-- ARGV[5]   deadline_us after now, or "" for none
-- ARGV[6]   most unfinished tasks of a tenant without a quota of its own; 0: no bound
-- ARGV[7]   cursor when it is wholly planned, by the tasks that follow; "" when the orchestrator plans it
-- ARGV[8]   how many pairs of the mission's hash follow
-- ARGV[9..] so many times field, value; then all of its tasks, each as plan_tasks.lua takes them (stride 7)
-- Returns   {1, id, now_us} made · {0, id} made before under this key · {-1, id} the key came with another request ·
--           {-8, id, open, most} the tenant has as many unfinished tasks as it may · {-11, id} it is suspended, or
--           removed; of both nothing is remembered
--- include keys
--- include clock
--- include record
--- include work
--- include plan
local k = keys(KEYS[1])
local now = now_us()
local id = ARGV[1]
if ARGV[2] ~= "" then
  local before = redis.call("HMGET", k.of_submitted(ARGV[2]), "mission", "request")
  if before[1] then return { before[2] == ARGV[3] and 0 or -1, before[1] } end
end
if redis.call("EXISTS", k.of_mission(id)) == 1 then return { 0, id } end
local bounds = redis.call("HMGET", k.quota, "max_ready", "suspended")
if bounds[2] then return { -11, id } end
local most = tonumber(bounds[1] or ARGV[6])
local open = tonumber(redis.call("GET", k.open) or 0)
if most > 0 and open >= most then return { -8, id, open, most } end
if ARGV[2] ~= "" then
  redis.call("HSET", k.of_submitted(ARGV[2]), "mission", id, "request", ARGV[3])
  redis.call("EXPIRE", k.of_submitted(ARGV[2]), 86400)
end
local deadline = ARGV[5] ~= "" and int(now + tonumber(ARGV[5])) or ""
local tasks = 9 + 2 * tonumber(ARGV[8])
redis.call("HSET", k.of_mission(id), "status", "PLANNING", "state_version", 1, "planned", 0, "planned_all", 0,
  "submitted_at", int(now), "deadline", deadline, unpack(ARGV, 9, tasks - 1))
redis.call("ZADD", k.missions, int(now), id)
redis.call("ZADD", k.active, deadline ~= "" and deadline or "+inf", id)
local asked = redis.call("HMGET", k.of_mission(id), "large", "budget", "total_tasks")
note("mission.submitted", id, "", { priority = mission(k, id).priority,
  budget = tonumber(asked[2]), total = tonumber(asked[3]) })
local large = asked[1]
if large then redis.call("SADD", k.large, id) end
for i = 9, #ARGV do
  if i >= tasks and (i - tasks) % 7 == 0 then birth(k, id, now, unpack(ARGV, i, i + 6)) end
end
if ARGV[7] ~= "" then
  begin(k, id, now, large, ARGV[7], 1, 0)
else
  mark_dirty(k, id)
  wake(k, "missions")
end
write_log(k, ARGV[4], now)
return { 1, id, int(now) }
