#!lua flags=allow-oom
-- One more sample of a tenant's last hour. No entry in the recorder: nothing of the tenant changes.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the leader's term
-- ARGV[2]   the sample's instant, Unix ms by the store's clock
-- ARGV[3]   most samples that stay
-- ARGV[4]   the version of their order (core/series.py)
-- ARGV[5]   its figures
-- Returns   1 it stands there, also when it did before · 0 there is a newer one · -5 an older term
--- include keys
--- include clock
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "orchestrator", tonumber(ARGV[1])) then return -5 end
local last = redis.call("XREVRANGE", k.series, "+", "-", "COUNT", 1)[1]
local newest = last and tonumber(string.match(last[1], "^%d+")) or 0
if newest >= tonumber(ARGV[2]) then return newest == tonumber(ARGV[2]) and 1 or 0 end
redis.call("XADD", k.series, "MAXLEN", "~", ARGV[3], ARGV[2] .. "-0", "named", ARGV[4], "figures", ARGV[5])
return 1
