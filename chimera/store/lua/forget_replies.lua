#!lua flags=allow-oom
-- Replies kept for re-runs go: the round is over, no re-run will ask for them.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2..] stride 2: task id, round
-- Returns   1, also when they were gone; or -5 an older term
--- include keys
--- include clock
--- include term
--- include kept
local k = keys(KEYS[1])
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
local rounds = {}
for i = 2, #ARGV, 2 do rounds[#rounds + 1] = of_round(k, ARGV[i], ARGV[i + 1]) end
for i = 1, #rounds, 1000 do redis.call("UNLINK", unpack(rounds, i, math.min(i + 999, #rounds))) end
return 1
