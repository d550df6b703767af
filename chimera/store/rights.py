"""What each role may do in Redis, as rules of its ACL. Pure: who logs in is in `chimera.store.users`.

Redis checks a user's rights inside scripts too, each command by itself. So a role is given the keys it reads
and writes, by the names of `chimera.store.keys`, and of commands only those that its scripts and its direct
calls contain. A worker's keys carry its tenant's tag; those of the hub's parts are every tenant's. What only
some commands may touch (append to the recorder, remove a key) stands in selectors of its own.

A worker may run the scripts that Redis was given, and bring none: with `EVAL` any agent could hold the
whole server up with a loop. The hub's parts may bring a script, so that a flushed cache heals itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from chimera.core.tenant import NAME
from chimera.store import keys
from chimera.store.scripts import source

Role = Literal["gateway", "orchestrator", "judge", "governor", "dashboard", "spare", "worker", "spoke"]
ROLES: tuple[Role, ...] = get_args(Role)
TENANTS: tuple[Role, ...] = ("worker", "spoke")
"""Roles that each tenant has users of its own for; every other is the whole fleet's."""


def _named(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


COMMANDS = _named(
    "BLMPOP BLPOP DEL EVAL EVALSHA EXEC EXISTS EXPIRE GET HDEL HEXISTS HGET HGETALL HINCRBY HKEYS HLEN",
    "HMGET HSCAN HSET HSETNX HSTRLEN HVALS INCR INCRBY INFO LLEN LMOVE LPOP LPOS LPUSH LRANGE LREM LTRIM",
    "MULTI PEXPIRE PING PSUBSCRIBE PUBLISH PUNSUBSCRIBE RPUSH SADD SCARD SELECT SET SISMEMBER SMEMBERS SPOP",
    "SREM TIME TTL UNLINK XADD XLEN XRANGE XREAD XREVRANGE XTRIM ZADD ZCARD ZCOUNT ZRANGE ZRANGEBYSCORE ZREM",
    "ZREVRANGE ZSCORE",
)
"""All that any role may be given: a script with another command runs for nobody."""

NARROW = frozenset({"BLMPOP", "DEL", "UNLINK", "XADD", "XTRIM"})
"""Never given for all keys that a role writes: only with the keys that they are for."""

LOGIN = frozenset({"PING", "SELECT"})
READING = _named(
    "EXEC EXISTS GET HEXISTS HGET HGETALL HKEYS HLEN HMGET HSTRLEN HVALS INFO LLEN LPOS LRANGE MULTI SCARD",
    "SISMEMBER SMEMBERS TIME XLEN XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZRANGE ZRANGEBYSCORE ZREVRANGE ZSCORE",
)
"""Of the parts of the hub. `INFO` tells how full the store is, and which process it is."""

SCHEMA_AND_TENANTS = (keys.SCHEMA, keys.TENANTS)


@dataclass(frozen=True)
class Rights:
    """What a role may do.

    Attributes:
        scripts: those it runs.
        direct: commands it runs outside of them.
        reads: of a tenant, keys by name; ``h:*`` is a family.
        writes: the same, to read and write.
        also: commands, each with keys of the tenant that it may touch beside those.
        shared_reads: keys of no tenant, as patterns.
        shared_writes: the same, to read and write.
        shared_also: the same, with keys of no tenant.
        wakes: the subjects of channels it publishes on: its tenant's, or every tenant's.
        hears: the subjects of channels it subscribes to.
        brings: it may bring a script to Redis.
    """

    scripts: frozenset[str] = frozenset()
    direct: frozenset[str] = LOGIN
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    also: tuple[tuple[str, tuple[str, ...]], ...] = ()
    shared_reads: tuple[str, ...] = ()
    shared_writes: tuple[str, ...] = ()
    shared_also: tuple[tuple[str, tuple[str, ...]], ...] = ()
    wakes: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    brings: bool = False


RECORDS = (("XADD", ("log",)), ("INCRBY", ("sequence",)), ("HINCRBY", ("tally",)))
"""Appends to the recorder and adds to its tally, and nothing else there."""
ASKS = (("BLMPOP", ("answers",)),)
"""Takes the governor's answers, and can write none."""
QUEUE = ("q:*",)
MISSIONS = ("mission", "missions", "active", "finished", "sweep", "revive", "large", "ids", "spec")
PLANS = (*MISSIONS, "shelf", "wanted", "scaled", "term")


def _leads(role: str) -> dict[str, tuple[str, ...]]:
    """Terms of a role; its name may go on (`governor of acme`)."""
    return {
        "leader": (keys.leader(f"{role}*"),),
        "all": (keys.leader(f"{role}*"), keys.last_term(f"{role}*")),
    }


RIGHTS: dict[Role, Rights] = {
    "worker": Rights(
        scripts=_named(
            "claim_tasks end_attempts leave_worker renew_leases send_holds send_requests",
            "submit_results",
        ),
        direct=LOGIN | {"BLPOP"},
        reads=("mission", "spec", "quota", "commit"),
        writes=QUEUE,
        also=(*RECORDS, *ASKS),
        wakes=(keys.MISSIONS, keys.REVIEWS, keys.LOAD, keys.MONEY),
    ),
    "spare": Rights(
        direct=LOGIN | {"BLPOP", "HGET", "HSETNX"},
        shared_writes=(keys.SPARES, keys.spare_bell("*")),
    ),
    # It keeps its tenant's workers from another cluster. Of what they work on it moves what a lost one held.
    "spoke": Rights(
        scripts=_named("drain_worker lead_swarm release_worker scale_fleet"),
        direct=LOGIN
        | _named("GET HGET HGETALL LLEN PSUBSCRIBE PUNSUBSCRIBE TIME ZCARD ZCOUNT ZRANGE ZRANGEBYSCORE"),
        reads=("mission", "quota", "sequence", "later"),
        writes=(
            *("spoke", "wanted", "scaled"),
            *("workers", "worker", "leases", "suspects", "task", "counts", "open", "depth", "bell"),
            *("ready", "high", "normal", "fallen", "dirty", "requests"),
        ),
        also=RECORDS,
        shared_reads=(keys.SCHEMA,),
        wakes=(keys.MISSIONS, keys.LOAD),
        hears=(keys.LOAD,),
    ),
    "judge": Rights(
        scripts=_named(
            "claim_reviews commit_verdicts elect_leader renew_reviews return_reviews send_holds",
            "send_requests",
        ),
        direct=LOGIN | READING | {"PSUBSCRIBE", "PUNSUBSCRIBE"},
        reads=("h:*", "spend"),
        writes=(*QUEUE, "j:*", "mission", "active", "finished", "sweep"),
        also=(*RECORDS, *ASKS),
        shared_reads=SCHEMA_AND_TENANTS,
        shared_writes=_leads("judge")["all"],
        shared_also=(("DEL", _leads("judge")["leader"]),),
        wakes=(keys.MISSIONS, keys.ERRANDS, keys.LOAD, keys.MONEY),
        hears=(keys.REVIEWS,),
        brings=True,
    ),
    "governor": Rights(
        scripts=_named(
            "answer_requests book_parcel close_draw draw_allowance drop_parcel elect_leader expire_holds",
            "forget_replies move_brake pack_parcel report_canary reserve_holds send_requests set_limits",
            "settle_holds take_allowance weigh_burn",
        ),
        direct=LOGIN | READING | {"LREM", "PSUBSCRIBE", "PUNSUBSCRIBE"},
        reads=("mission", "progress", "quota"),
        writes=("g:*", "a:*", *QUEUE, "term"),
        # It asks itself, too: for what must be refused.
        also=(*RECORDS, *ASKS, ("UNLINK", ("kept",)), ("DEL", ("limits",))),
        shared_reads=SCHEMA_AND_TENANTS,
        shared_writes=(*_leads("governor")["all"], keys.CANARY),
        shared_also=(
            ("DEL", _leads("governor")["leader"]),
            ("XTRIM", (keys.TenantKeys(keys.CANARY).log,)),
        ),
        wakes=(keys.MISSIONS, keys.MONEY),
        hears=(keys.MONEY,),
        brings=True,
    ),
    "orchestrator": Rights(
        scripts=_named(
            "add_sample advance_export advance_sink bind_spare check_block claim_actions drain_worker",
            "elect_leader mark_mission open_epoch pass_failures plan_tasks prune_mission publish_agents",
            "release_worker",
            "report_actions report_archive rescue_leases revive_tasks scale_fleet settle_mission",
            "settle_dead shelve_tasks sweep_mission trim_log",
        ),
        direct=LOGIN | READING | {"HDEL", "PSUBSCRIBE", "PUNSUBSCRIBE", "SPOP"},
        reads=("h:*", "g:*", "j:*", "r:*"),
        writes=(*PLANS, *QUEUE, "action", "outcomes", "outbox", "sinks", "epochs", "dead", "again"),
        also=(
            *RECORDS,
            ("XADD", ("series",)),
            ("XTRIM", ("log",)),
            ("UNLINK", ("mission", "ids", "spec", "shelf", *QUEUE, "j:*", "spend", "kept")),
        ),
        shared_reads=(*SCHEMA_AND_TENANTS, keys.REMOVED),
        shared_writes=(
            *_leads("orchestrator")["all"],
            keys.AGENTS,
            keys.ARCHIVE,
            keys.RETENTION,
            keys.EXPORT,
            keys.SPARES,
            keys.spare_bell("*"),
        ),
        shared_also=(("DEL", (*_leads("orchestrator")["leader"], keys.AGENTS)),),
        wakes=(keys.MISSIONS, keys.REVIEWS, keys.ERRANDS, keys.LOAD),
        hears=(keys.MISSIONS, keys.ERRANDS, keys.LOAD),
        brings=True,
    ),
    "gateway": Rights(
        scripts=_named(
            "add_tenant answer_review cancel_mission change_limits edit_mission pause_mission read_results",
            "acknowledge_flags answer_dead make_key note_act note_removed order_brake purge_tenant",
            "redrive_tasks remove_tenant resume_mission",
            "retry_actions revoke_keys set_key set_limits set_quota submit_mission suspend_tenant",
            "send_holds send_requests take_requests use_key weigh_burn",
        ),
        direct=LOGIN | READING | {"EXPIRE", "HDEL", "HSCAN", "PUBLISH", "SET", "TTL"},
        reads=("h:*", "g:*", "r:*"),
        writes=(
            *(*MISSIONS, "quota", "bucket", "submitted", "operation", *QUEUE, "j:*"),
            *("limits", "stated", "brake", "notices", "moves", "flags", "dead", "again"),
        ),
        # It pays for chat completions: it asks the governor as a worker does.
        # Of a tenant that was removed it deletes all but the recorder.
        also=(
            *RECORDS,
            *ASKS,
            ("DEL", ("limits", "quota", "stated", "operation")),
            ("UNLINK", ("h:*", "q:*", "a:*", "j:*", "g:*")),
        ),
        shared_reads=(
            *(keys.SCHEMA, keys.AGENTS, keys.ARCHIVE, keys.RETENTION, keys.EXPORT),
            *(keys.SPARES, keys.CANARY),
            keys.leader("*"),
        ),
        shared_writes=(
            *(keys.TENANTS, keys.REMOVED, keys.API_KEYS, keys.KEYS_USED),
            *(keys.keys_of("*"), keys.session("*")),
        ),
        shared_also=(("XTRIM", (keys.TenantKeys(keys.FLEET).log,)), ("DEL", (keys.session("*"),))),
        wakes=(keys.MISSIONS, keys.REVIEWS, keys.ERRANDS, keys.LOAD, keys.MONEY, keys.USERS),
        brings=True,
    ),
    "dashboard": Rights(
        scripts=_named("read_results"),
        direct=LOGIN | READING | {"PSUBSCRIBE", "PUNSUBSCRIBE"},
        reads=("h:*", "q:*", "j:*", "g:*", "r:*"),
        shared_reads=(
            *SCHEMA_AND_TENANTS,
            keys.AGENTS,
            keys.ARCHIVE,
            keys.RETENTION,
            keys.SPARES,
            keys.leader("*"),
        ),
        hears=(keys.MISSIONS, keys.REVIEWS, keys.ERRANDS, keys.LOAD, keys.MONEY),
    ),
}

_CALL = re.compile(r'(?:redis\.call\((?:[^"()]* and )?|\ball\(| or )"([A-Z]{3,})"')


@cache
def commands_of(script: str) -> frozenset[str]:
    """The commands of Redis in a script and its includes."""
    code = re.sub(r"--[^\n]*", "", source(script))
    return frozenset(_CALL.findall(code)) & COMMANDS


@cache
def commands(role: Role) -> frozenset[str]:
    """All that a role may run, with whatever keys."""
    rights = RIGHTS[role]
    found = set(rights.direct).union(*map(commands_of, rights.scripts))
    if rights.scripts:
        found |= {"EVALSHA", "EVAL"} if rights.brings else {"EVALSHA"}
    return frozenset(found) | {one for one, _ in (*rights.also, *rights.shared_also)}


def rules(role: Role, tenant: str = "") -> tuple[str, ...]:
    """The rules of a role's user, as ``ACL SETUSER`` takes them behind ``reset``; without its passwords.

    Args:
        tenant: whose worker or spoke it is; "" for every other role.
    Raises:
        ValueError: the tenant's name is none: it would be a pattern.
    """
    if tenant and not NAME.fullmatch(tenant):
        raise ValueError(f"{tenant!r} is no tenant's name")
    rights, root = RIGHTS[role], f"{{{tenant or '*'}}}:"
    own = [f"~{_pattern(root, name)}" for name in rights.writes]
    own += [f"%R~{_pattern(root, name)}" for name in rights.reads]
    # Redis looks from the front: families are what most commands are about.
    own.sort(key=lambda given: not given.endswith(_FAMILY))
    if rights.scripts:
        own.append(f"~{root}")  # what scripts are called with: no key of that name exists
    spoken = [keys.channel(subject, tenant or "*") for subject in rights.wakes]
    heard = [keys.channel(subject, tenant or "*") for subject in rights.hears]
    selectors = [(one, [_pattern(root, name) for name in names]) for one, names in rights.also]
    selectors += [(one, list(patterns)) for one, patterns in rights.shared_also]
    return (
        "on",
        "resetchannels",
        "-@all",
        *(f"+{one.lower()}" for one in sorted(commands(role) - NARROW)),
        *own,
        *(f"~{pattern}" for pattern in rights.shared_writes),
        *(f"%R~{pattern}" for pattern in rights.shared_reads),
        *(f"&{pattern}" for pattern in dict.fromkeys((*spoken, *heard))),
        *(_selector(one, patterns) for one, patterns in selectors),
    )


_FAMILY = tuple(f"}}:{letter}:*" for letter in "qhjgra")


def _pattern(root: str, name: str) -> str:
    """Of a key of `chimera.store.keys`, or of a family."""
    if name in keys.PLAIN:
        return root + keys.PLAIN[name]
    if name in keys.OWNED:
        return f"{root}{keys.OWNED[name]}*"
    return root + name


def _selector(command: str, patterns: list[str]) -> str:
    given = "%W~" if command == "XADD" else "~"
    return f"({' '.join((f'+{command.lower()}', *(given + one for one in patterns)))})"
