-- The keys of one tenant, from its root "{tenant}:". The same names as store/keys.py, which documents
-- each; a test compares the two.
local function keys(root)
  local plain = {
    missions = "h:missions", active = "h:active", finished = "h:finished", sweep = "h:sweep", revive = "h:revive",
    quota = "h:quota", bucket = "h:bucket", large = "h:large",
    high = "q:high", normal = "q:normal", later = "q:later", leases = "q:leases",
    open = "q:open", review = "q:review", judging = "q:judging", fallen = "q:fallen", dirty = "q:dirty",
    bell = "q:bell", pulse = "q:pulse", workers = "q:workers", requests = "q:requests", sent = "q:sent",
    inbox = "j:inbox", outbox = "j:outbox", slo = "j:slo", limits = "g:limits", ledger = "g:ledger", holds = "g:holds",
    wanted = "h:wanted",
    sequence = "r:seq", log = "r:log", sinks = "r:sinks", epochs = "r:epochs",
  }
  local owned = {
    mission = "h:m:", ids = "h:ids:", spec = "h:t:", shelf = "h:shelf:", submitted = "h:idem:", operation = "h:op:", term = "h:term:",
    task = "q:t:", counts = "q:m:", ready = "q:ready:", parked = "q:parked:", worker = "q:w:", suspects = "q:suspects:", answers = "q:answers:",
    verdicts = "j:v:", commit = "j:t:", action = "j:a:", actions = "j:al:", outcomes = "j:am:", spend = "g:m:", hold = "g:hold:", kept = "g:kept:",
  }
  local k = { root = root, tenant = string.sub(root, 2, -3) }
  for name, path in pairs(plain) do k[name] = root .. path end
  for name, path in pairs(owned) do
    k["of_" .. name] = function(id) return root .. path .. id end
  end
  return k
end
