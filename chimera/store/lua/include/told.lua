-- What an agent's process says of an attempt, a JSON object or "": {tools: [...], actions: [...], result: {...}}. It may
-- say anything, or nothing that can be read: nothing of it decides anything, and nothing of it may stop a script.
local MOST_TOLD, MOST_TOOLS, MOST_ASKED = 1048576, 100, 100
local function told(text)
  if text == "" then return {} end
  local read, said = false, nil
  if #text <= MOST_TOLD then read, said = pcall(cjson.decode, text) end
  return read and type(said) == "table" and said or { unread = #text }
end
local function note_each(kind, mid, id, list, most)
  if type(list) ~= "table" then return end
  for i = 1, math.min(#list, most) do
    if type(list[i]) == "table" then note(kind, mid, id, list[i]) end
  end
end
local function note_tools(mid, id, said)
  note_each("tool.called", mid, id, said.tools, MOST_TOOLS)
end
local function note_proposals(mid, id, said)
  note_each("action.proposed", mid, id, said.actions, MOST_ASKED)
end
