-- Limits of money: what stands in k.limits, and the entry that tells of a change. `wanted`: field -> µ$ as text.
local function put_limits(k, wanted, by, reason)
  local before, stood = {}, {}
  local flat = redis.call("HGETALL", k.limits)
  for i = 1, #flat, 2 do
    before[flat[i]] = flat[i + 1]
    stood[flat[i]] = tonumber(flat[i + 1])
  end
  local same, raised, limits = true, 0, {}
  for field, limit in pairs(before) do
    if wanted[field] ~= limit then same = false end
    if not wanted[field] or tonumber(wanted[field]) > tonumber(limit) then raised = 1 end
  end
  for field, limit in pairs(wanted) do
    if not before[field] then same = false end
    limits[field] = tonumber(limit)
  end
  if same then return end
  redis.call("DEL", k.limits)
  for field, limit in pairs(wanted) do redis.call("HSET", k.limits, field, limit) end
  note("limits.set", "", "", { limits = limits, before = next(stood) and stood, reason = reason, raised = raised })
  write_log(k, by, now_us())
end
