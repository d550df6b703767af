-- Tasks are born: READY, or BLOCKED until others are final. Run by the scripts that submit and plan. First birth() of
-- each, in the order planned; then begin() once, when the mission's hash is there.
local ids, ready, named = {}, {}, { READY = {}, BLOCKED = {} }
-- For the record: names, those that are numbers in a row as "0..99".
local function name_task(status, name)
  local list, number = named[status], string.match(name, "^%d+$")
  local from, to = string.match(list[#list] or "", "^(%d+)%.?%.?(%d*)$")
  if number and from and tonumber(number) == tonumber(to ~= "" and to or from) + 1 then
    list[#list] = from .. ".." .. number
  else
    list[#list + 1] = name
  end
end
local function birth(k, mid, now, name, stage, input, depends_on, needed_by, waits_for, partial)
  local id = mid .. "." .. name
  redis.call("HSET", k.of_spec(id), "stage", stage, "input", input, "depends_on", depends_on, "needed_by", needed_by,
    "partial", partial)
  local status = tonumber(waits_for) > 0 and "BLOCKED" or "READY"
  redis.call("HSET", k.of_task(id), "status", status, "waits_for", waits_for, "planned_at", int(now))
  ids[#ids + 1] = id
  if status == "READY" then ready[#ready + 1] = id end
  name_task(status, name)
  tally(mid, status, 1)
end
-- They stand: the mission goes on at `cursor`, and runs from its first window on. Workers find them.
local function begin(k, mid, now, large, cursor, all_of_it, refill)
  local m = mission(k, mid)
  if m.status == "PLANNING" then
    m.status = "RUNNING"
    redis.call("HSET", k.of_mission(mid), "status", "RUNNING")
    note("mission.running", mid, "")
  end
  if not large then all("RPUSH", k.of_ids(mid), ids) end -- those of a large one are numbered: see ids.lua
  all("RPUSH", k.of_ready(mid), ready)
  redis.call("HSET", k.of_mission(mid), "planned", cursor, "planned_all", all_of_it, "refill", refill)
  note("mission.planned", mid, "", { tasks = #ids, cursor = tonumber(cursor),
    ready = table.concat(named.READY, " "), blocked = named.BLOCKED[1] and table.concat(named.BLOCKED, " ") })
  write_counts(k)
  -- Whoever saw work there already need not be told of more.
  if #ready > 0 then offer(k, mid, now, #ready) end
  ring(k)
end
