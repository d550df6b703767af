#!lua flags=allow-oom
-- Read tasks whole, each in one instant: for whoever reads many. Others use single commands, which name what is damaged.
-- KEYS[1]   the tenant's root
-- ARGV[1..] stride 1: task id
-- Returns   per task {spec, task, commit, verdicts}: three lists of field, value, and one of JSON texts
--- include keys
local k = keys(KEYS[1])
local out = {}
for i = 1, #ARGV, 1 do
  local id = ARGV[i]
  out[i] = { redis.call("HGETALL", k.of_spec(id)), redis.call("HGETALL", k.of_task(id)),
    redis.call("HGETALL", k.of_commit(id)), redis.call("LRANGE", k.of_verdicts(id), 0, -1) }
end
return out
