#!lua flags=allow-oom
-- Answer the requests at the front of the list, and only then remove them.
-- KEYS[1]   the tenant's root
-- ARGV[1]   the governor's term
-- ARGV[2]   the governor
-- ARGV[3]   operation id: the same again changes nothing
-- ARGV[4]   requests to remove
-- ARGV[5]   how long an answer waits for its asker, s
-- ARGV[6..] stride 2: asker, answer (JSON)
-- Returns   1 answered; or -5 an older term
--- include keys
--- include clock
--- include term
local k = keys(KEYS[1])
if not hold_term(k, "governor", tonumber(ARGV[1])) then return -5 end
if redis.call("HGET", k.of_worker(ARGV[2]), "answered") == ARGV[3] then return 1 end
redis.call("HSET", k.of_worker(ARGV[2]), "answered", ARGV[3])
redis.call("EXPIRE", k.of_worker(ARGV[2]), 3600)
local answers = {} -- asker -> its answers, in order
for i = 6, #ARGV, 2 do
  local own = answers[ARGV[i]] or {}
  answers[ARGV[i]] = own
  own[#own + 1] = ARGV[i + 1]
end
for asker, own in pairs(answers) do
  for i = 1, #own, 1000 do
    redis.call("RPUSH", k.of_answers(asker), unpack(own, i, math.min(i + 999, #own)))
  end
  redis.call("EXPIRE", k.of_answers(asker), ARGV[5])
end
redis.call("LTRIM", k.requests, ARGV[4], -1)
return 1
