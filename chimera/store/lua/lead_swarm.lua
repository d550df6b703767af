#!lua flags=allow-oom
-- Take, keep or give up the lead of a tenant's swarm. Only a tenant whose quota says `spoke` has one to lead. A new
-- leader gets a new term, higher than any before: scale_fleet.lua compares it.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the spoke
-- ARGV[2]   for how long, µs; 0 gives the lead up
-- ARGV[3]   the cluster that it is on, for the record
-- Returns   {1, term} it leads · {0, term, leader} another does, or nobody ("") · {-12} the hub keeps these workers
--- include keys
--- include clock
--- include record
local k = keys(KEYS[1])
local now = now_us()
local kept = redis.call("HMGET", k.spoke, "leader", "until", "term")
local leader, term = kept[1] or "", tonumber(kept[3] or 0)
if tonumber(kept[2] or 0) <= now then leader = "" end
local mine = leader == ARGV[1]
local asked = redis.call("HGET", k.quota, "spoke") == "1"
if not asked or ARGV[2] == "0" then
  if mine then
    redis.call("HSET", k.spoke, "until", 0)
    note("spoke.left", "", "", { spoke = ARGV[1], term = term })
    write_log(k, ARGV[1], now)
    leader = ""
  end
  if not asked then return { -12 } end
  return { 0, term, leader }
end
if leader ~= "" and not mine then return { 0, term, leader } end
if not mine then
  term = term + 1
  note("spoke.led", "", "", { spoke = ARGV[1], term = term, cluster = ARGV[3] })
end
redis.call("HSET", k.spoke, "leader", ARGV[1], "until", int(now + tonumber(ARGV[2])), "term", int(term),
  "cluster", ARGV[3])
write_log(k, ARGV[1], now)
return { 1, term }
