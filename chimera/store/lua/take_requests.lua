#!lua flags=allow-oom
-- Let requests of a tenant, or of one key, pass, at its rate and burst: a bucket for all gateways, by this server's clock. It is
-- kept as the instant at which all that passed would have come at the rate alone.
-- KEYS[1]   the tenant's root; or the key's, which has no quota
-- ARGV[1]   the gateway that asks
-- ARGV[2]   its take: the same again gives the same answer, for the reply may have been lost
-- ARGV[3]   most requests to let pass
-- ARGV[4]   the fleet's rate for a tenant without one of its own, requests a second; 0: no bound
-- ARGV[5]   the burst likewise; 0: what one second brings
-- Returns   {passed, wait_us, per_s, suspended}: how many pass (0: none before `wait_us`), the rate ("0": no bound),
--           and since when (µs) and why the tenant is suspended, or ""
--- include keys
--- include clock
local k = keys(KEYS[1])
local asked = "take:" .. ARGV[1]
local q = redis.call("HMGET", k.quota, "requests_per_s", "burst", "suspended")
local b = redis.call("HMGET", k.bucket, "full_at", asked)
local last, passed, waits = string.match(b[2] or "", "^(%S+) (%d+) (%d+)$")
local rate, burst = tonumber(q[1] or ARGV[4]), tonumber(q[2] or ARGV[5])
if last == ARGV[2] then return { tonumber(passed), tonumber(waits), tostring(rate), q[3] or "" } end
if rate <= 0 then return { tonumber(ARGV[3]), 0, "0", q[3] or "" } end
local now, each = now_us(), 1000000 / rate
local depth = math.max(1, burst > 0 and burst or rate) * each
local full_at = math.max(tonumber(b[1]) or 0, now)
local pass = math.max(0, math.min(tonumber(ARGV[3]), math.floor((now + depth - full_at) / each + 0.000001)))
local wait = pass == 0 and math.max(1, full_at + each - depth - now) or 0
redis.call("HSET", k.bucket, "full_at", int(full_at + pass * each),
  asked, ARGV[2] .. " " .. int(pass) .. " " .. int(math.ceil(wait)))
redis.call("PEXPIRE", k.bucket, int(math.ceil((full_at + pass * each - now) / 1000) + 10000))
return { pass, math.ceil(wait), tostring(rate), q[3] or "" }
