#!lua flags=allow-oom
-- Say that a tenant's archive cannot be written, or that it can again.
-- KEYS[1]   the troubles of all archives
-- ARGV[1]   tenant
-- ARGV[2]   what is wrong, as JSON; "" when all is well
-- Returns   1
if ARGV[2] == "" then
  redis.call("HDEL", KEYS[1], ARGV[1])
else
  redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
end
return 1
