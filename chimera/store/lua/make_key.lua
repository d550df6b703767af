#!lua flags=allow-oom
-- Make a key; in place of another, which ends then or later. Keys that ended long ago are forgotten on the way.
-- KEYS[1]   the API keys
-- KEYS[2]   the tenant's: key id → digest
-- ARGV[1]   the key's id: the same again changes nothing
-- ARGV[2]   its digest
-- ARGV[3]   its record (JSON), without the instant it is made
-- ARGV[4]   most keys of a tenant, before this one
-- ARGV[5]   id of the key in whose place it comes, or ""
-- ARGV[6]   seconds which that one still has
-- ARGV[7]   seconds after which a key that ended is forgotten
-- Returns   1 made · 0 made before · -2 there is no key to replace · -8 the tenant has as many as it may
--- include clock
if redis.call("HGET", KEYS[2], ARGV[1]) then return 0 end
local now = now_us() / 1000000
local has, count = redis.call("HGETALL", KEYS[2]), 0
for i = 1, #has, 2 do
  local kept = redis.call("HGET", KEYS[1], has[i + 1])
  local ends = kept and cjson.decode(kept).expires_at
  local revoked = tonumber(string.match(has[i + 1], "^revoked (%d+)$") or nil)
  if revoked then
    if revoked < now - 86400 then redis.call("HDEL", KEYS[2], has[i]) end
  elseif not kept or (ends and ends < now - tonumber(ARGV[7])) then
    redis.call("HDEL", KEYS[1], has[i + 1])
    redis.call("HDEL", KEYS[2], has[i])
  else
    count = count + 1
  end
end
if ARGV[5] ~= "" then
  local digest = redis.call("HGET", KEYS[2], ARGV[5])
  local record = digest and redis.call("HGET", KEYS[1], digest)
  if not record then return -2 end
  local old = cjson.decode(record)
  old.expires_at = math.floor(math.min(old.expires_at or math.huge, now + tonumber(ARGV[6])))
  if count >= tonumber(ARGV[4]) then return -8 end
  redis.call("HSET", KEYS[1], digest, cjson.encode(old))
elseif count >= tonumber(ARGV[4]) then
  return -8
end
local record = cjson.decode(ARGV[3])
record.created_at = math.floor(now)
redis.call("HSET", KEYS[1], ARGV[2], cjson.encode(record))
redis.call("HSET", KEYS[2], ARGV[1], ARGV[2])
return 1
