#!lua flags=allow-oom
-- Calls are about to leave: from now on their holds are charged when they run out. Run by whoever sends, before it
-- sends. A hold that is over is none to send under. No entry in the recorder: no money moves until the hold ends.
-- KEYS[1]   the tenant's root
-- ARGV[1..] stride 1: hold id
-- Returns   per hold: 1 the call may leave, also when asked again · 0 there is no open hold of that id
--- include keys
local k = keys(KEYS[1])
local out = {}
for i = 1, #ARGV, 500 do
  local last = math.min(i + 499, #ARGV)
  local marks, leaving = redis.call("HMGET", k.sent, unpack(ARGV, i, last)), {}
  for n, mark in ipairs(marks) do
    out[#out + 1] = mark and 1 or 0
    if mark == "0" then
      leaving[#leaving + 1] = ARGV[i + n - 1]
      leaving[#leaving + 1] = 1
    end
  end
  if #leaving > 0 then redis.call("HSET", k.sent, unpack(leaving)) end
end
return out
