#!lua
-- Acknowledge a mission: PLANNING, with its state document at version 1.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   digest of the idempotency key, or ""
-- ARGV[3]   digest of the request, compared when the idempotency key comes again
-- ARGV[4]   who submits
-- ARGV[5]   deadline_us after now, or "" for none
-- ARGV[6..] field, value: the mission's hash
-- Returns   {1, id} made · {0, id} made before under this key · {-1, id} the key came with another request
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
  redis.call("HSET", k.of_submitted(ARGV[2]), "mission", id, "request", ARGV[3])
  redis.call("EXPIRE", k.of_submitted(ARGV[2]), 86400)
end
if redis.call("EXISTS", k.of_mission(id)) == 1 then return { 0, id } end
local fields = {}
for i = 6, #ARGV do fields[#fields + 1] = ARGV[i] end
local deadline = ARGV[5] ~= "" and now + tonumber(ARGV[5]) or nil
redis.call("HSET", k.of_mission(id), "status", "PLANNING", "state_version", 1, "planned", 0,
  "planned_all", 0, "submitted_at", int(now), "deadline", deadline and int(deadline) or "", unpack(fields))
redis.call("ZADD", k.missions, int(now), id)
redis.call("ZADD", k.active, deadline and int(deadline) or "+inf", id)
mark_dirty(k, id)
note("mission.submitted", id, "")
write_log(k, ARGV[4], now)
wake(k, "missions")
return { 1, id }
