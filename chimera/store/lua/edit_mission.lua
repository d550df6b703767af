#!lua
-- Change a mission's goal or context: its state_version grows, so results of the old state are refused.
-- KEYS[1]   the tenant's root
-- ARGV[1]   mission id
-- ARGV[2]   operation id: the same again changes nothing
-- ARGV[3]   who edits
-- ARGV[4]   goal, or "" to keep it
-- ARGV[5]   context (JSON), or "" to keep it
-- Returns   the state_version after it, the same again for the same operation · -1 the mission is final · -2 there is no such mission
--- include keys
--- include clock
--- include record
--- include work
--- include operation
local k = keys(KEYS[1])
local now = now_us()
local mid = ARGV[1]
local status = redis.call("HGET", k.of_mission(mid), "status")
local op, before = operation(k, "edit", mid, ARGV[2])
if before then return before end
if not status then return -2 end
if FINAL_MISSION[status] then return -1 end
local version = redis.call("HINCRBY", k.of_mission(mid), "state_version", 1)
if ARGV[4] ~= "" then redis.call("HSET", k.of_mission(mid), "goal", ARGV[4]) end
if ARGV[5] ~= "" then redis.call("HSET", k.of_mission(mid), "context", ARGV[5]) end
note("mission.edited", mid, "", { state_version = version })
write_log(k, ARGV[3], now)
return conclude(op, version)
