#!lua flags=allow-oom
-- Take or keep the lead of a role. A new leader gets a new term, higher than any before.
-- KEYS[1]   the leader's key: "<replica> <term>", with an expiry
-- KEYS[2]   the last term given out
-- ARGV[1]   replica
-- ARGV[2]   for how long, ms
-- Returns   {1, term} it leads · {0, term, leader} another does
local now = redis.call("GET", KEYS[1])
if now then
  local replica, term = string.match(now, "^(.*) (%d+)$")
  if replica ~= ARGV[1] then return { 0, tonumber(term), replica } end
  redis.call("PEXPIRE", KEYS[1], ARGV[2])
  return { 1, tonumber(term) }
end
local term = redis.call("INCR", KEYS[2])
redis.call("SET", KEYS[1], ARGV[1] .. " " .. term, "PX", ARGV[2])
return { 1, term }
