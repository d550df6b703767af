#!lua
-- Acknowledge a mission: PLANNING, with its state document at version 1.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   digest of the idempotency key, or ""
-- ARGV[3]   digest of the request, compared when the idempotency key comes again
-- ARGV[4]   who submits
-- ARGV[5]   deadline_us after now, or "" for none
-- ARGV[6]   most unfinished tasks of a tenant without a quota of its own; 0: no bound
-- ARGV[7..] field, value: the mission's hash
-- Returns   {1, id} made · {0, id} made before under this key · {-1, id} the key came with another request ·
--           {-8, id, open, most} the tenant has as many unfinished tasks as it may; nothing is remembered
--- include keys
--- include clock
--- include record
--- include work
local k = keys(KEYS[1])
local now = now_us()
local id = ARGV[1]
if ARGV[2] ~= "" then
  local before = redis.call("HMGET", k.of_submitted(ARGV[2]), "mission", "request")
  if before[1] then return { before[2] == ARGV[3] and 0 or -1, before[1] } end
end
if redis.call("EXISTS", k.of_mission(id)) == 1 then return { 0, id } end
local most = tonumber(redis.call("HGET", k.quota, "max_ready") or ARGV[6])
local open = tonumber(redis.call("GET", k.open) or 0)
if most > 0 and open >= most then return { -8, id, open, most } end
if ARGV[2] ~= "" then
  redis.call("HSET", k.of_submitted(ARGV[2]), "mission", id, "request", ARGV[3])
  redis.call("EXPIRE", k.of_submitted(ARGV[2]), 86400)
end
local fields, priority = {}, nil
for i = 7, #ARGV do
  fields[#fields + 1] = ARGV[i]
  if ARGV[i - 1] == "priority" then priority = ARGV[i] end
end
local deadline = ARGV[5] ~= "" and now + tonumber(ARGV[5]) or nil
redis.call("HSET", k.of_mission(id), "status", "PLANNING", "state_version", 1, "planned", 0,
  "planned_all", 0, "submitted_at", int(now), "deadline", deadline and int(deadline) or "", unpack(fields))
if redis.call("HEXISTS", k.of_mission(id), "large") == 1 then redis.call("SADD", k.large, id) end
redis.call("ZADD", k.missions, int(now), id)
redis.call("ZADD", k.active, deadline and int(deadline) or "+inf", id)
mark_dirty(k, id)
note("mission.submitted", id, "", { priority = priority })
write_log(k, ARGV[4], now)
wake(k, "missions")
return { 1, id }
