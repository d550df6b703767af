"""How every tenant's workers, queues and leases stand, for people who look at the whole fleet.

Many tenants are read in the same few round trips as one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chimera.core.task import Priority
from chimera.store.connection import Redis, ask, translated
from chimera.store.keys import TenantKeys
from chimera.store.tenants import SUSPENDED

MOST_WORKERS = 10_000
"""Workers of one tenant that are looked at."""
MOST_LINES = 20
"""Missions with READY tasks whose first one is looked at, of high priority and of others each: they stand in
the order in which they are served."""
MOST_LEASES = 1_000
"""Leases of one tenant whose age is looked at: those that end first."""
MOST_CHANGES = 20
"""Changes of the number of workers, of one tenant."""

Command = tuple[str | int | float, ...]


@dataclass(frozen=True, slots=True)
class Swarm:
    """One tenant at one instant. A worker counts once: as lost, draining, busy or idle.

    Attributes:
        wanted: workers that the fleet controller wants.
        starting: of these, those that were not heard of yet.
        busy, idle: workers that beat and stay: with and without an attempt under way.
        draining: those that take nothing more.
        lost: those whose last heartbeat is too long ago, and whose work was not given back yet.
        slots, slots_busy: places for agents in workers that beat, and those in use.
        ready: READY tasks by priority.
        oldest_s: how long the first task in line has been ready; None: none is in line.
        leases: tasks under a worker's lease.
        overdue: of these, those whose lease has run out and which nobody has given back yet.
        reviews: results that wait for a judge or are with one.
        inbox: tasks that wait for a human.
        brake: ``open``, ``throttled`` or ``frozen``.
        suspended: whether the tenant is.
    """

    tenant: str
    wanted: int
    starting: int
    busy: int
    idle: int
    draining: int
    lost: int
    slots: int
    slots_busy: int
    ready: dict[Priority, int]
    oldest_s: float | None
    leases: int
    overdue: int
    reviews: int
    inbox: int
    brake: str
    suspended: bool


@dataclass(frozen=True, slots=True)
class Change:
    """The fleet controller wanted another number of workers for a tenant.

    Attributes:
        at_us: when, by the store's clock.
        backlog, running: tasks that could run, and tasks under lease, just then.
        scarce: more tenants had work than there were places.
    """

    tenant: str
    at_us: int
    before: int
    workers: int
    backlog: int
    running: int
    scarce: bool


async def swarms(redis: Redis, tenants: Sequence[str]) -> dict[str, Swarm]:
    """Each tenant, in three round trips.

    Raises:
        CorruptRecord: one of them cannot be read: see `chimera.store.damage.apart`.
    """
    keys = [TenantKeys(tenant) for tenant in tenants]
    width = len(_stands(TenantKeys("")))
    with translated():
        (seconds, micros), *found = await ask(
            redis, [("TIME",), *(one for of in keys for one in _stands(of))]
        )
        now_us = int(seconds) * 1_000_000 + int(micros)
        read = [_Stand(of, found[at * width : (at + 1) * width]) for at, of in enumerate(keys)]
        told = iter(await ask(redis, [one for stand in read for one in stand.asks(now_us)]))
        for stand in read:
            stand.hear(told)
        heads = [(stand, head) for stand in read for head in stand.heads]
        asked: list[Command] = [
            ("HMGET", stand.keys.of("task", head), "ready_at", "planned_at") for stand, head in heads
        ]
        since = await ask(redis, asked) if asked else []
        for (stand, _), (ready_at, planned_at) in zip(heads, since, strict=True):
            stand.since.append(int(ready_at or planned_at or now_us))
        return {stand.keys.tenant: stand.swarm(now_us) for stand in read}


async def ages(redis: Redis, tenants: Sequence[str]) -> tuple[list[float], int]:
    """For how long tasks have been under lease, s, of `MOST_LEASES` of each tenant; and how many there are.

    In two round trips.
    """
    keys = [TenantKeys(tenant) for tenant in tenants]
    asked: list[Command] = [("TIME",)]
    for of in keys:
        asked += [("ZRANGE", of.leases, 0, MOST_LEASES - 1), ("ZCARD", of.leases)]
    with translated():
        (seconds, micros), *found = await ask(redis, asked)
        now_us = int(seconds) * 1_000_000 + int(micros)
        tasks = [of.of("task", task) for of, some in zip(keys, found[::2], strict=True) for task in some]
        claimed = await ask(redis, [("HGET", task, "claimed_at") for task in tasks]) if tasks else []
        return [max(0, now_us - int(at)) / 1e6 for at in claimed if at], sum(found[1::2])


async def changes(redis: Redis, tenants: Sequence[str], most: int) -> list[Change]:
    """The last changes of how many workers tenants are to have, newest first; in one round trip."""
    reads: list[Command] = [
        ("LRANGE", TenantKeys(tenant).scaled, 0, min(most, MOST_CHANGES) - 1) for tenant in tenants
    ]
    with translated():
        found = await ask(redis, reads) if reads else []
        told = [_change(tenant, text) for tenant, texts in zip(tenants, found, strict=True) for text in texts]
    return sorted(told, key=lambda one: -one.at_us)[:most]


def _change(tenant: str, text: str) -> Change:
    said = json.loads(text)
    return Change(
        tenant,
        int(said["at"]),
        int(said["before"]),
        int(said["workers"]),
        int(said.get("backlog", 0)),
        int(said.get("running", 0)),
        bool(said.get("scarce", False)),
    )


def _stands(keys: TenantKeys) -> list[Command]:
    """What is asked of each tenant first."""
    return [
        ("ZRANGE", keys.workers, 0, MOST_WORKERS - 1, "WITHSCORES"),
        ("HMGET", keys.depth, *Priority),
        ("GET", keys.wanted),
        ("ZCARD", keys.leases),
        ("LLEN", keys.review),
        ("ZCARD", keys.judging),
        ("ZCARD", keys.inbox),
        ("HGET", keys.brake, "state"),
        ("HGET", keys.quota, SUSPENDED),
        ("ZRANGE", keys.high, 0, MOST_LINES - 1),
        ("ZRANGE", keys.normal, 0, MOST_LINES - 1),
    ]


class _Stand:
    """One tenant while it is read. Raises ValueError, TypeError: what was answered cannot be."""

    def __init__(self, keys: TenantKeys, answers: Sequence[Any]) -> None:
        workers, depth, wanted, leases, review, judging, inbox, brake, suspended, high, normal = answers
        self.keys = keys
        self.workers = [(str(name), float(until)) for name, until in _scored(workers)]
        self.ready = {one: max(0, int(count or 0)) for one, count in zip(Priority, depth, strict=True)}
        self.wanted, self.leases = int(wanted or 0), int(leases)
        self.reviews, self.inbox = int(review) + int(judging), int(inbox)
        self.brake, self.suspended = str(brake or "open"), suspended is not None
        self.lines = [*high, *normal]
        self.heads: list[str] = []
        self.since: list[int] = []
        self.overdue = 0
        self.said: list[Sequence[str | None]] = []

    def asks(self, now_us: int) -> list[Command]:
        """What is asked second."""
        return [
            ("ZCOUNT", self.keys.leases, "-inf", now_us),
            *(("HMGET", self.keys.of("worker", name), "slots", "busy", "drain") for name, _ in self.workers),
            *(("LRANGE", self.keys.of("ready", mission_id), 0, 0) for mission_id in self.lines),
        ]

    def hear(self, told: Iterator[Any]) -> None:
        """The answers to that."""
        self.overdue = int(next(told))
        self.said = [next(told) for _ in self.workers]
        self.heads = [head for _ in self.lines for head in next(told)]

    def swarm(self, now_us: int) -> Swarm:
        """All of it put together."""
        lost = draining = busy = idle = slots = slots_busy = 0
        for (_, until), (has, uses, drain) in zip(self.workers, self.said, strict=True):
            if until <= now_us:
                lost += 1
                continue
            slots += int(has or 0)
            slots_busy += int(uses or 0)
            if drain == "1":
                draining += 1
            elif int(uses or 0):
                busy += 1
            else:
                idle += 1
        return Swarm(
            tenant=self.keys.tenant,
            wanted=self.wanted,
            starting=max(0, self.wanted - busy - idle),
            busy=busy,
            idle=idle,
            draining=draining,
            lost=lost,
            slots=slots,
            slots_busy=slots_busy,
            ready=self.ready,
            oldest_s=max(0, now_us - min(self.since)) / 1e6 if self.since else None,
            leases=self.leases,
            overdue=self.overdue,
            reviews=self.reviews,
            inbox=self.inbox,
            brake=self.brake,
            suspended=self.suspended,
        )


def _scored(found: Sequence[Any]) -> Iterator[tuple[str, float]]:
    """Members and scores: over RESP2 they come flat."""
    if found and not isinstance(found[0], list | tuple):
        yield from zip(found[::2], map(float, found[1::2]), strict=True)
    else:
        yield from found
