-- The flight recorder: note() collects transitions, write_log() appends them as one stream entry with
-- their range of sequence numbers. Call write_log() once, at a script's end.
local events = {}
local function note(kind, mission, task, details)
  events[#events + 1] = { kind, mission, task, details or {} }
end
local function write_log(k, by, now)
  if #events == 0 then return end
  local seq = redis.call("INCRBY", k.sequence, #events)
  redis.call("XADD", k.log, "*", "seq", int(seq), "at", int(now), "by", by, "events", cjson.encode(events))
end
