"""What an agent does that means harm: it takes its worker's login to Redis, and tries its neighbour's keys.

It runs as any agent does, in a worker's process, and looks where any code there could: in the frames of the
tasks beside it, and in the environment. Each attempt and how it ended is told to a witness outside Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog

from chimera import settings as configuration
from chimera.errors import ChimeraError, ConfigurationError, StoreError, StoreTimeout, StoreUnavailable
from chimera.settings import Settings
from chimera.store import keys
from chimera.store.connection import SyncRedis, connect_sync, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import SyncScripts
from chimera.store.users import PREFIX, as_role

log = structlog.get_logger(__name__)

Command = tuple[str | int, ...]

REFUSED, THROUGH, AWAY = "refused", "through", "away"
"""How an attempt ended: Redis denied it; it did not; or Redis could not be asked."""


def logins(neighbour: str) -> Iterator[tuple[str, Settings]]:
    """(where it was found, settings) of each login in reach: the worker's, the environment's, and what can be
    derived from that."""
    for found in _frames():
        yield "worker", found
        break
    try:
        environment = configuration.load()
    except ConfigurationError:
        return
    if environment.redis_url is not None:
        yield "environment", environment
        if environment.redis_secret is not None:
            yield "derived", as_role(environment, "worker", neighbour)


def _frames() -> Iterator[Settings]:
    """Settings that stand in the frames of this loop's tasks, or in what stands there."""
    for task in asyncio.all_tasks():
        running: Any = task.get_coro()
        while (frame := getattr(running, "cr_frame", None)) is not None:
            for value in frame.f_locals.values():
                for one in (value, getattr(value, "_settings", None)):
                    if isinstance(one, Settings) and one.redis_url is not None:
                        yield one
            running = running.cr_await


def attempts(own: str, neighbour: str) -> Iterator[tuple[str, Command]]:
    """(what it is, command) of all that must be refused. What goes through all the same harms nobody."""
    for tenant, families in ((neighbour, "hqajgr"), (own, "hjg")):
        root = TenantKeys(tenant).root
        for family in families:
            key = f"{root}{family}:probe"
            yield f"read {family} of {tenant}", ("HGET", key, "f")
            yield f"write {family} of {tenant}", ("HSET", key, "f", "probed")
    theirs, mine = TenantKeys(neighbour), TenantKeys(own)
    yield f"take work of {neighbour}", ("LPOP", theirs.of("ready", "m1"))
    yield f"hear of money of {neighbour}", ("BLMPOP", "0.01", 1, theirs.of("answers", "w1"), "LEFT")
    yield f"append to the record of {neighbour}", ("XADD", theirs.log, "NOMKSTREAM", "*", "probe", "1")
    yield f"wake the hub for {neighbour}", ("PUBLISH", keys.channel(keys.MISSIONS, neighbour), "")
    yield f"read the ledger of {own}", ("HGETALL", mine.ledger)
    yield f"trim the record of {own}", ("XTRIM", mine.log, "MAXLEN", 1_000_000_000)
    yield "read the keys of the API", ("HLEN", keys.API_KEYS)
    yield "list all keys", ("SCAN", 0)
    yield "hear everybody", ("PUBSUB", "CHANNELS")
    yield "bring a script", ("EVAL", "return 1", 0)
    yield "read the passwords", ("ACL", "LIST")
    yield "read the configuration", ("CONFIG", "GET", "requirepass")


def probe(own: str, neighbour: str, found: Sequence[tuple[str, Settings]]) -> list[dict[str, str]]:
    """Try everything with every login. Returns each attempt: ``login, what, outcome``; [] where one user is
    everybody's. It blocks."""
    told: list[dict[str, str]] = []
    for where, settings in found:
        if not _is_parted(settings):
            continue
        redis = connect_sync(settings)
        try:
            said = [(what, _tried(redis, command)) for what, command in attempts(own, neighbour)]
            said.append((f"run a script on {neighbour}", _script(redis, neighbour)))
        finally:
            redis.close()
        told += [{"login": where, "what": what, "outcome": outcome} for what, outcome in said]
    return told


def _is_parted(settings: Settings) -> bool:
    """Whether a login is one of several; a worker is not told that, and its user's name says it."""
    login = settings.redis_url.get_secret_value() if settings.redis_url else ""
    return settings.redis_users == "roles" or (urlsplit(login).username or "").startswith(PREFIX)


def _tried(redis: SyncRedis, command: Command) -> str:
    try:
        with translated():
            redis.execute_command(*command)
    except ChimeraError as exc:
        return _outcome(exc)
    return THROUGH


def _script(redis: SyncRedis, tenant: str) -> str:
    """The one that lets a worker leave: there is none of that name."""
    try:
        SyncScripts(redis).run("leave_worker", [TenantKeys(tenant).root], "probe", "probe")
    except ChimeraError as exc:
        return _outcome(exc)
    return THROUGH


def _outcome(exc: ChimeraError) -> str:
    text = str(exc)
    if "forbids its user" in text or "Authentication required" in text or "refuses the login" in text:
        return REFUSED
    if isinstance(exc, StoreUnavailable | StoreTimeout):
        return AWAY
    return THROUGH if isinstance(exc, StoreError) else f"{THROUGH}: {text}"
