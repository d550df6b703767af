"""After a drill: everything at rest, then its whole history, from the store and the witnesses' journals."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from chimera.chaos.history import History, MissionEnd, TenantEnd
from chimera.chaos.journal import read
from chimera.errors import StoreError
from chimera.settings import Settings
from chimera.store.actions import ActionStore
from chimera.store.archive import Archive
from chimera.store.blobs import Blobs
from chimera.store.connection import Redis, connect, translated
from chimera.store.ledger import Ledger
from chimera.store.missions import MissionStore
from chimera.store.recorder import Recorder
from chimera.store.tasks import TaskStore

QUIET_S = 240.0
"""Everything is at rest after the last fault within this."""
PAGE = 500


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
    missions, tasks, ledger = MissionStore(redis, tenant), TaskStore(redis, tenant), Ledger(redis, tenant)
    records = await missions.get_many(await missions.list_ids(most=100_000))
    results: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    for record in records:
        async for ids in _pages(missions, record.mission_id):
            for task in await tasks.get_many(ids):
                if task.status == "ACCEPTED" and task.has_result:
                    results[task.task_id] += 1
                verdicts[task.task_id] += sum(one.decision == "accept" for one in task.verdicts)
    with translated():
        open_holds = int(await redis.zcard(ledger.keys.holds))
    outbox = ActionStore(redis, tenant)
    actions: dict[str, str] = {}
    for record in records:
        ids = await outbox.ids(record.mission_id, most=100_000)
        actions |= {one.action_id: one.status for one in await outbox.get_many(ids)}
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
    )


async def _pages(missions: MissionStore, mission_id: str) -> AsyncIterator[list[str]]:
    at = 0
    while ids := await missions.task_ids(mission_id, offset=at, most=PAGE):
        yield ids
        at += len(ids)
