#!lua flags=allow-oom
-- Calls are about to leave: from now on their holds are charged when they run out. Run by whoever sends, before it
-- sends. A hold that is over is none to send under. No entry in the recorder: no money moves until the hold ends.
-- KEYS[1]   the tenant's root
-- ARGV[1..] stride 1: hold id
-- Returns   per hold: 1 the call may leave, also when asked again · 0 there is no open hold of that id
--- include keys
local k = keys(KEYS[1])
local out = {}
for i = 1, #ARGV do
  local open = redis.call("HEXISTS", k.sent, ARGV[i])
  if open == 1 then redis.call("HSET", k.sent, ARGV[i], 1) end
  out[#out + 1] = open
end
return out
