#!lua flags=allow-oom
-- Begin an epoch of the flight recorder: the store is another process than before, or lacks what the archive
-- has. It begins behind the last event that both share; what the stream holds behind that is of the new epoch.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the orchestrator's term
-- ARGV[2]   the epoch; 1 is the first ever, and no event
-- ARGV[3]   the process (run_id) of the store that was looked at
-- ARGV[4]   number of the last shared event, 0 for none
-- ARGV[5]   stream id of that event's entry, 0-0 for none
-- ARGV[6]   the archive's cursor from now on
-- ARGV[7]   events that the archive has and the stream lost
-- ARGV[8]   who opens it
-- ARGV[9..] stride 2: an epoch that the store forgot, and "<number> <stream id>" of what it begins behind
-- Returns   1 begun, also when it just was · 0 the store is not as it was looked at · -5 an older term
--- include keys
--- include clock
--- include record
--- include sinks
--- include term
local k = keys(KEYS[1])
local now = now_us()
if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
local run = string.match(redis.call("INFO", "server"), "run_id:(%x+)")
if run ~= ARGV[3] then return 0 end
local begins = ARGV[4] .. " " .. ARGV[5]
local begun = redis.call("HGET", k.epochs, ARGV[2])
if begun then return begun == begins and redis.call("HGET", k.epochs, "run") == run and 1 or 0 end
if ARGV[4] ~= "0" and not holds(k, ARGV[5], ARGV[4]) then return 0 end
for i = 9, #ARGV, 2 do redis.call("HSETNX", k.epochs, ARGV[i], ARGV[i + 1]) end
redis.call("HSET", k.epochs, ARGV[2], begins, "run", run)
redis.call("HSET", k.sinks, "archive", ARGV[6])
if ARGV[2] ~= "1" then
  note("recorder.epoch", "", "",
    { epoch = tonumber(ARGV[2]), after = tonumber(ARGV[4]), lost = tonumber(ARGV[7]) })
  write_log(k, ARGV[8], now)
end
return 1
