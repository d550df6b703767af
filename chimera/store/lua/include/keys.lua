-- The keys of one tenant, from its root "{tenant}:". The same names as store/keys.py, which documents
-- each; a test compares the two. A name is made when it is first asked for: no script needs more than a few.
local PLAIN_KEYS = {
  missions = "h:missions", active = "h:active", finished = "h:finished", sweep = "h:sweep", revive = "h:revive",
  quota = "h:quota", bucket = "h:bucket", large = "h:large",
  high = "q:high", normal = "q:normal", later = "q:later", leases = "q:leases",
  open = "q:open", review = "q:review", judging = "q:judging", fallen = "q:fallen", dirty = "q:dirty",
  bell = "q:bell", depth = "q:depth", pulse = "q:pulse", workers = "q:workers", requests = "q:requests", sent = "q:sent",
  inbox = "q:inbox", outbox = "j:outbox", slo = "j:slo", progress = "j:progress",
  limits = "g:limits", stated = "g:stated", ledger = "g:ledger",
  holds = "g:holds", subjects = "g:subjects", purse = "g:purse", draws = "g:draws",
  brake = "g:brake", burn = "g:burn", notices = "g:notices", moves = "g:moves", flags = "g:flags",
  wanted = "h:wanted", scaled = "h:scaled", series = "h:series", spoke = "h:spoke",
  sequence = "r:seq", tally = "r:tally", log = "r:log", sinks = "r:sinks", epochs = "r:epochs",
  dead = "r:dead", again = "r:again",
}
local OWNED_KEYS = {
  mission = "h:m:", ids = "h:ids:", spec = "h:t:", shelf = "h:shelf:", submitted = "h:idem:", operation = "h:op:", term = "h:term:",
  task = "q:t:", counts = "q:m:", ready = "q:ready:", parked = "q:parked:", worker = "q:w:", suspects = "q:suspects:", answers = "a:answers:",
  verdicts = "j:v:", commit = "j:t:", action = "j:a:", actions = "j:al:", outcomes = "j:am:", spend = "g:m:", subject = "g:s:", hold = "g:hold:",
  kept = "g:kept:", draw = "g:draw:",
}
local function keys(root)
  return setmetatable({ root = root, tenant = string.sub(root, 2, -3) }, { __index = function(k, name)
    local made
    if PLAIN_KEYS[name] then
      made = root .. PLAIN_KEYS[name]
    else
      local path = root .. OWNED_KEYS[string.sub(name, 4)] -- of_task, of_hold …
      made = function(id) return path .. id end
    end
    rawset(k, name, made)
    return made
  end })
end
