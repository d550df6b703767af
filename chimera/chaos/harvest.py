"""After a drill: everything at rest, then its whole history, from the store and the witnesses' journals."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from chimera.chaos.history import History, MissionEnd, TenantEnd
from chimera.chaos.journal import read
from chimera.errors import StoreError
from chimera.settings import Settings
from chimera.store.actions import ActionStore
from chimera.store.archive import Archive
from chimera.store.blobs import Blobs
from chimera.store.connection import Redis, connect, translated
from chimera.store.cuts import Cuts
from chimera.store.dossiers import Dossiers
from chimera.store.ledger import Ledger
from chimera.store.missionrecord import MissionRecord
from chimera.store.missions import MissionStore
from chimera.store.readings import Readings
from chimera.store.recorder import Recorder
from chimera.store.results import ResultStore
from chimera.store.rights import ROLES, TENANTS
from chimera.store.shelves import Shelf
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore
from chimera.store.users import user_of

QUIET_S = 240.0
"""Everything is at rest after the last fault within this."""
PAGE = 500
EVERY = 100_000
"""More missions than a drill has."""

HUB = frozenset(user_of(role) for role in ROLES if role not in TENANTS)

T = TypeVar("T")


async def quiet(settings: Settings, tenants: tuple[str, ...], told: Callable[[str], None]) -> None:
    """Wait until nothing is active, held or owed; say what is when that takes too long."""
    deadline = time.monotonic() + QUIET_S
    left = "nothing was asked"
    while time.monotonic() < deadline:
        redis = connect(settings)
        try:
            busy = [text for tenant in tenants if (text := await _open(redis, tenant))]
            if not busy:
                return
            left = "; ".join(busy)
        except StoreError as exc:
            left = str(exc)
        finally:
            await redis.aclose()
        await asyncio.sleep(0.5)
    # Not an error: the checker shows what is still open.
    told(f"not at rest after {QUIET_S:g} s: {left}")


async def _open(redis: Redis, tenant: str) -> str:
    missions, ledger = MissionStore(redis, tenant), Ledger(redis, tenant)
    active = len(await missions.active())
    with translated():
        holds = await redis.zcard(ledger.keys.holds)
        owed = await redis.llen(ledger.keys.requests)
        sweeps = await redis.scard(missions.keys.sweep)
        actions = await redis.zcard(missions.keys.outbox)
    if not (active or holds or owed or sweeps or actions):
        return ""
    return f"{tenant}: {active} missions, {holds} holds, {owed} requests, {sweeps} sweeps, {actions} actions"


async def gather(settings: Settings, tenants: tuple[str, ...], directory: Path) -> History:
    """The history of the drill whose journals are in a directory."""
    redis, blobs = connect(settings), Blobs(settings.blob_location)
    try:
        return History(
            tenants={tenant: await _end_of(redis, blobs, tenant) for tenant in tenants},
            acknowledged=tuple(read(directory / "acknowledged.ndjson")),
            calls=tuple(read(directory / "calls.ndjson")),
            hooks=tuple(read(directory / "hooks.ndjson")),
            rests=tuple(read(directory / "rests.ndjson")),
            probes=tuple(read(directory / "probes.ndjson")),
            strangers=await _strangers(redis),
            denied=await _denied(redis),
            faults=tuple(
                {**fault, "at": fault.get("began", fault["at"])}
                for fault in read(directory / "faults.ndjson")
            ),
        )
    finally:
        await redis.aclose()


async def _end_of(redis: Redis, blobs: Blobs, tenant: str) -> TenantEnd:
    archive = Archive(blobs, tenant)
    archived, breaks = await archive.verify()
    missions, ledger = MissionStore(redis, tenant), Ledger(redis, tenant)
    dossiers = Dossiers(blobs, tenant)
    shelf = Shelf(redis, blobs, tenant)
    tasks, results_of = TaskStore(redis, tenant, shelf), ResultStore(redis, tenant, shelf)
    readings = Readings(missions, tasks, ActionStore(redis, tenant), results_of, dossiers)
    # A store that was full may have archived some of them already.
    there_are = {*await missions.list_ids(most=EVERY), *await dossiers.ids(most=EVERY)}
    records: list[MissionRecord] = []
    results: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    actions: dict[str, str] = {}
    for mission_id in sorted(there_are):
        reading = await readings.open(mission_id)
        records.append(reading.mission)
        async for task in _pages(reading.tasks):
            if task.status == "ACCEPTED" and task.has_result:
                results[task.task_id] += 1
            verdicts[task.task_id] += sum(one.decision == "accept" for one in task.verdicts)
        async for action in _pages(reading.actions):
            actions[action.action_id] = action.status
    with translated():
        open_holds = int(await redis.zcard(ledger.keys.holds))
    return TenantEnd(
        events=tuple([event async for _, event in Recorder(redis, tenant, archive).read()]),
        missions=tuple(
            MissionEnd(
                mission_id=one.mission_id,
                status=one.status,
                total_tasks=one.total_tasks,
                counts={str(status): n for status, n in one.counts.items() if n},
                budget_microusd=one.budget_microusd,
                settled_microusd=one.settled_microusd,
                held_microusd=one.held_microusd,
            )
            for one in records
        ),
        results=dict(results),
        verdicts=dict(verdicts),
        archived=archived,
        breaks=tuple(breaks),
        held_microusd=(await ledger.balance()).held,
        open_holds=open_holds,
        actions=actions,
        ledger=tuple([cut async for cut in Cuts(redis, tenant).take()]),
    )


async def _strangers(redis: Redis) -> tuple[str, ...]:
    """Keys that are neither a tenant's nor the fleet's."""
    tenants = await TenantStore(redis).names()
    ours = ("chimera:", "{chimera:", *(f"{{{name}}}:" for name in tenants))
    with translated():
        found = [key async for key in redis.scan_iter(count=1_000)]
    return tuple(sorted(key for key in found if not key.startswith(ours) or key.endswith(":probe")))


async def _denied(redis: Redis) -> tuple[tuple[str, str], ...]:
    """What Redis denied the parts of the hub, of the last 128 denials."""
    with translated():
        entries = await redis.acl_log(1_000)
    return tuple(
        (entry["username"], f"{entry['reason']} {entry['object']}")
        for entry in entries
        if entry["reason"] != "auth" and entry["username"] in HUB
    )


async def _pages(read: Callable[[int, int], Awaitable[list[T]]]) -> AsyncIterator[T]:
    at = 0
    while page := await read(at, PAGE):
        for one in page:
            yield one
        at += len(page)
