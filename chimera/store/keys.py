"""Every key in Redis: its name, type, writers and lifetime. The one place that names them.

A tenant's keys carry the hash tag ``{tenant}``, so a script touches one slot. The letter after
the tag is the **family**, and families are split by who may write them, because Redis checks an
ACL inside scripts too:

    h  hub       missions, task specs, tenants: workers read some of them
    q  queue     claims, leases, counters, results on their way: workers, judge and hub write
    a  answers   the governor's to those who ask it: a worker takes them, and can write none
    j  judge     verdicts, commit records and the outbox: a worker reads results, and can write none
    g  governor  the ledger and the replies kept for re-runs: a worker can neither read nor write them
    r  recorder  the flight recorder: workers may append, the hub trims

`chimera.store.users` makes of these who may do what.

============  ======  =================================================  =====================
method        type    holds                                              lifetime
============  ======  =================================================  =====================
mission       hash    spec, state document, status                       until pruned
missions      zset    mission → submitted at (µs)                        until pruned
active        zset    mission that is not final → deadline (µs, +inf)    while not final
finished      zset    mission that is final → its end (µs)               until pruned
sweep         set     final missions whose open tasks must still end     until swept
revive        set     missions whose swept tasks must come back          until revived
quota         hash    the tenant's own bounds, where it has any; since  for ever
                      when and why it is suspended
bucket        hash    requests that passed, by the rate; last takes      while any, + 10 s
large         set     missions whose accepted tasks leave Redis early    until pruned
ids           list    task ids of a mission, as planned; of none large   with the mission
shelf         zset    file of a large mission's accepted tasks → number  with the mission
                      of the first task of its block
spec          hash    a task's stage, input, dependencies                with the mission
submitted     string  mission made under an idempotency key              24 h
operation     string  what a person's or program's operation answered    24 h
term          string  highest term seen of a role                        for ever
task          hash    a task's run state                                 with the mission
counts        hash    tasks of a mission by status, and other tallies    with the mission
ready         list    a mission's READY tasks                            while any
parked        list    a paused mission's tasks in REVIEW                 until resumed
open          string  tasks BLOCKED, READY, PENDING or in REVIEW         for ever
high, normal  zset    missions with READY tasks → rank (µs)              while any
later         zset    READY tasks with a not-before → that instant (µs)  while any
leases        zset    PENDING task → lease's end (µs)                    while any
review        list    tasks in REVIEW that no judge holds                while any
judging       zset    tasks in REVIEW with a judge → lease's end (µs)    while any
fallen        list    FAILED or CANCELLED tasks others wait for          until passed on
dirty         set     missions the hub should look at                    until looked at
bell          list    one element for each worker worth waking           capped
depth         hash    READY tasks by priority                            for ever
workers       zset    worker → heartbeat's end (µs)                      while alive
worker        hash    a worker's slots, last claim, drain order          while alive, + 1 h
series        stream  samples of the tally and of what stands now          the last hour
wanted        string  workers the fleet controller last wanted           for ever
scaled        list    the last changes of that, newest first (JSON)      for ever, capped
spoke         hash    which spoke keeps the tenant's workers, until when  for ever
                      (µs), under which term, on which cluster
suspects      zset    tasks a worker holds that died before → deaths     while any, 24 h
pulse         hash    when the store was last in use; rescues held till  for ever
requests      list    what the governor is asked to do                   until it is done
answers       list    the governor's answers to one worker               60 s
sent          hash    open hold → 0, or 1 once its call may have left    with the hold
verdicts      list    every verdict on a task, oldest first              with the mission
commit        hash    the accepted result: the commit record             with the mission
inbox         zset    ESCALATED task → since (µs)                        while any
action        hash    one accepted action, what became of it             with the mission
actions       list    actions of a mission, as accepted                  with the mission
outcomes      hash    actions of a mission by status                     with the mission
outbox        zset    QUEUED action → due, or its lease's end (µs)       while any
progress      string  when a result was accepted last (µs)               for ever
slo           hash    accepted of high priority: by time taken, breaches  for ever
limits        hash    the tenant's limits: ``day``, ``agent/NAME/day``,  for ever
                      ``model/NAME/hour`` … (µ$)
stated        string  limits that the environment set last, as written   for ever
ledger        hash    settled by window, held (µ$), calls                for ever; old minutes,
                                                                         hours and days go
subject       hash    the same of an agent or a model: ``agent/NAME``    as ledger
subjects      zset    agents and models → last reservation (µs)          for ever, 1,000 of each
purse         hash    allowance drawn from the fleet's ledger (µ$), and  for ever
                      what is spent and not yet told to it
draw          hash    of the fleet's ledger: a tenant's last draw        for ever
draws         zset    of the fleet's ledger: tenant with a draw that     while any
                      may not have arrived → since (µs)
spend         hash    settled and held of one mission (µ$)               with the mission
hold          hash    one reservation                                    1 h after its end
holds         zset    open hold → its end (µs)                           while any
brake         hash    where the tenant's brake stands, since when, why   for ever
burn          hash    settled in each 5 s (µ$); of that, for tasks (":t")  the long window
notices       list    changes of the brake that a webhook is to hear     until it took them
moves         list    the brake's newest changes, the newest first       for ever, 100
flags         hash    refusals by level, till somebody has seen them     until acknowledged
kept          hash    one round of a task: settled call → its reply      a setting, or the round
sequence      string  number of the recorder's last event                for ever
tally         hash    events by kind, times by bucket, tokens: totals    for ever
log           stream  the flight recorder's newest entries               until archived, and more
sinks         hash    sink → how far it has read: its cursor             for ever
epochs        hash    epoch → what it begins behind; the store's run     for ever
dead          hash    event that the MCP server refused → why, as JSON   until taken, or dropped
again         set     of these those that are to be tried again          until tried
============  ======  =================================================  =====================

``lua/include/keys.lua`` assembles the same names inside scripts; a test compares the two.
"""

from __future__ import annotations

SCHEMA = "chimera:schema"
"""String: the layout's version, written by the first to come."""
TENANTS = "chimera:tenants"
"""Hash: tenant → JSON record."""
API_KEYS = "chimera:keys"
"""Hash: SHA-256 of a key → JSON record."""
KEYS_USED = "{chimera:keys}:used"
"""Hash: SHA-256 of a key → when it was used last (s), to within a minute. It is in the slot of `API_KEYS`."""
AGENTS = "chimera:agents"
"""Hash: registered agent → JSON record."""
MISSIONS = "chimera:missions"
"""Channels, see `channel`: a tenant has missions to look at."""
REVIEWS = "chimera:reviews"
"""Channels: a tenant has results to judge."""
ERRANDS = "chimera:errands"
"""Channels: a tenant has actions to carry out."""
LOAD = "chimera:load"
"""Channels: a tenant has work and no worker."""
MONEY = "chimera:money"
"""Channels: a tenant has requests for the governor."""
USERS = "chimera:users"
"""Channels: a tenant has come or gone, and so must the user of its workers."""
ARCHIVE = "chimera:archive"
"""Hash: tenant whose archive cannot be written → JSON: since when, how often, why."""
RETENTION = "chimera:retention"
"""Hash: tenant whose finished missions cannot be archived → the same."""
EXPORT = "chimera:export"
"""Hash: `*`, while the MCP server cannot be told, or a tenant whose events cannot → the same."""
REMOVED = "chimera:removed"
"""Hash: tenant that was removed → the last act on it: its recorder is still brought to its end."""
CANARY = "chimera:canary"
"""Hash: what came of the last canary, and the failure that stands. Also the name of the canary's own root,
which no tenant can have: its limit, its requests, its refusals."""
SPARES = "{chimera:spares}:tenants"
"""Hash: spare (a warm process) → the tenant it belongs to for good, "" while it waits, "-" to end."""
FLEET = "chimera:fleet"
"""In place of a tenant's name: the fleet's own ledger, under the keys that a tenant's would have."""
SCHEMA_VERSION = "2"


def channel(subject: str, tenant: str) -> str:
    """The channel of a tenant: who may publish there wakes nobody for another. Messages say nothing."""
    return f"{subject}:{tenant}"


def spare_bell(spare: str) -> str:
    """List: what a spare waits at; the tenant whose it has become. It expires soon."""
    return f"{{chimera:spares}}:bell:{spare}"


def keys_of(tenant: str) -> str:
    """Hash: id of a tenant's key (of `*`: the fleet's) → its SHA-256, or since when it is revoked.

    It is in the slot of `API_KEYS`."""
    return f"{{chimera:keys}}:of:{tenant}"


def session(digest: str) -> str:
    """String: a person's session with the dashboard, by its id's SHA-256; JSON. It expires."""
    return f"chimera:session:{digest}"


def login_root(address: str) -> str:
    """Root of the rate at which an address may log in: a bucket, as a tenant's is; no tenant's."""
    return f"{{chimera:login:{address}}}:"


def key_root(tenant: str, key_id: str) -> str:
    """Root of one key's own rate of requests: a bucket, as a tenant's is. It can be no tenant's root."""
    return f"{{chimera:key:{tenant}:{key_id}}}:"


def leader(role: str) -> str:
    """String: who leads a role, with an expiry. Its tag puts it into the slot of the role's last term."""
    return f"{{chimera:term:{role}}}:leader"


def last_term(role: str) -> str:
    """String: the last term given out for a role."""
    return f"chimera:term:{role}"


class TenantKeys:
    """The keys of one tenant."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.root = f"{{{tenant}}}:"

    def __getattr__(self, name: str) -> str:
        """A key that has no id of its own: `keys.leases`."""
        try:
            return self.root + PLAIN[name]
        except KeyError as exc:
            raise AttributeError(f"no key is named {name!r}") from exc

    def of(self, name: str, identity: str) -> str:
        """A key that belongs to one mission, task, worker or hold: `keys.of("task", task_id)`."""
        return f"{self.root}{OWNED[name]}{identity}"


PLAIN = {
    "missions": "h:missions",
    "active": "h:active",
    "finished": "h:finished",
    "sweep": "h:sweep",
    "revive": "h:revive",
    "quota": "h:quota",
    "bucket": "h:bucket",
    "large": "h:large",
    "high": "q:high",
    "normal": "q:normal",
    "later": "q:later",
    "open": "q:open",
    "leases": "q:leases",
    "review": "q:review",
    "judging": "q:judging",
    "fallen": "q:fallen",
    "dirty": "q:dirty",
    "bell": "q:bell",
    "depth": "q:depth",
    "pulse": "q:pulse",
    "workers": "q:workers",
    "wanted": "h:wanted",
    "scaled": "h:scaled",
    "spoke": "h:spoke",
    "series": "h:series",
    "requests": "q:requests",
    "sent": "q:sent",
    "inbox": "q:inbox",
    "outbox": "j:outbox",
    "slo": "j:slo",
    "progress": "j:progress",
    "limits": "g:limits",
    "stated": "g:stated",
    "ledger": "g:ledger",
    "holds": "g:holds",
    "subjects": "g:subjects",
    "purse": "g:purse",
    "draws": "g:draws",
    "brake": "g:brake",
    "burn": "g:burn",
    "notices": "g:notices",
    "moves": "g:moves",
    "flags": "g:flags",
    "sequence": "r:seq",
    "tally": "r:tally",
    "log": "r:log",
    "sinks": "r:sinks",
    "epochs": "r:epochs",
    "dead": "r:dead",
    "again": "r:again",
}
OWNED = {
    "mission": "h:m:",
    "ids": "h:ids:",
    "spec": "h:t:",
    "shelf": "h:shelf:",
    "submitted": "h:idem:",
    "operation": "h:op:",
    "term": "h:term:",
    "task": "q:t:",
    "counts": "q:m:",
    "ready": "q:ready:",
    "parked": "q:parked:",
    "worker": "q:w:",
    "suspects": "q:suspects:",
    "answers": "a:answers:",
    "verdicts": "j:v:",
    "commit": "j:t:",
    "action": "j:a:",
    "actions": "j:al:",
    "outcomes": "j:am:",
    "spend": "g:m:",
    "subject": "g:s:",
    "hold": "g:hold:",
    "kept": "g:kept:",
    "draw": "g:draw:",
}
