#!lua flags=allow-oom
-- Hand in results for review. A worker cannot accept its own work.
-- KEYS[1]   the tenant's root
-- ARGV[1]   worker
-- ARGV[2]   stale results that make a human look
-- ARGV[3..] stride 7: task id, token, state_version the work was done under, result (JSON), proposed actions
--           (a JSON list of texts, each an action's JSON; "" for none): they share the result's fate, SHA-256 of the
--           result, what the worker says beside it (see told.lua)
-- Returns   per task, the same again for the same token: {1} in review · {-4} stale, planned again ·
--           {-1, holder, since_ms, status} the lease is lost
--- include keys
--- include clock
--- include record
--- include work
--- include suspect
--- include lapse
--- include told
local k = keys(KEYS[1])
local now = now_us()
local out, reviews, ended = {}, {}, {}
for i = 3, #ARGV, 7 do
  local id = ARGV[i]
  local t = redis.call("HMGET", k.of_task(id), "status", "token", "submitted_token", "submitted_as", "deaths",
    "attempt")
  if t[3] == ARGV[i + 1] then
    out[#out + 1] = { tonumber(t[4]) }
  elseif t[1] ~= "PENDING" or t[2] ~= ARGV[i + 1] then
    out[#out + 1] = lost(k, id, ARGV[i + 1], ARGV[1])
  else
    local mid = mission_of(id)
    ended[#ended + 1] = id
    if t[5] then clear(k, ARGV[1], id) end
    local said = told(ARGV[i + 6])
    note_tools(mid, id, said)
    took_since("attempt", ARGV[i + 1], now)
    local stale = mission(k, mid).version ~= ARGV[i + 2]
    if stale then
      redis.call("HSET", k.of_task(id), "submitted_token", ARGV[i + 1], "submitted_as", -4)
      refuse_stale(k, id, "PENDING", tonumber(ARGV[2]), now)
      out[#out + 1] = { -4 }
    else
      move(k, id, mid, "PENDING", "REVIEW", "submitted_token", ARGV[i + 1], "submitted_as", 1,
        "result", ARGV[i + 3], "version", ARGV[i + 2])
      if ARGV[i + 4] ~= "" then redis.call("HSET", k.of_task(id), "actions", ARGV[i + 4]) end
      note("task.submitted", mid, id, { attempt = tonumber(t[6]), unread = said.unread,
        result = type(said.result) == "table" and said.result or { bytes = #ARGV[i + 3], sha256 = ARGV[i + 5] } })
      note_proposals(mid, id, said)
      reviews[#reviews + 1] = id
      out[#out + 1] = { 1 }
    end
  end
end
all("ZREM", k.leases, ended)
all("RPUSH", k.review, reviews)
write_counts(k)
ring(k)
write_log(k, ARGV[1], now)
if #reviews > 0 then wake(k, "reviews") end
return out
