#!lua flags=allow-oom
-- Set the limits: exactly those given stand afterwards. A lowered limit binds new grants.
-- KEYS[1]   the tenant's root, or the fleet's
-- ARGV[1]   who sets
-- ARGV[2]   why
-- ARGV[3]   what the environment says, as written: it sets nothing while it says the same as before, so that what was
--           changed since stays; "" when it is not the environment
-- ARGV[4..] stride 2: limit (`day`, `agent/NAME/day`, `model/NAME/day`), µ$
-- Returns   1
--- include keys
--- include clock
--- include record
--- include limits
local k = keys(KEYS[1])
if ARGV[3] ~= "" then
  if redis.call("GET", k.stated) == ARGV[3] then return 1 end
  redis.call("SET", k.stated, ARGV[3])
end
local wanted = {}
for i = 4, #ARGV, 2 do wanted[ARGV[i]] = ARGV[i + 1] end
put_limits(k, wanted, ARGV[1], ARGV[2])
return 1
