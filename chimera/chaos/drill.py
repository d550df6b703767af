"""The drill: load and faults on a fleet, then quiet, rest and waking, then the history of it all.

tenants → load + nemesis → quiet → no worker → one mission each → history
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from chimera.chaos.calls import LIMITS
from chimera.chaos.faults import Fault, schedule
from chimera.chaos.harvest import QUIET_S, gather, quiet
from chimera.chaos.history import History
from chimera.chaos.journal import Journal
from chimera.chaos.load import Lane
from chimera.chaos.nemesis import Nemesis
from chimera.chaos.rest import to_zero_and_back
from chimera.chaos.site import Site
from chimera.client import Client
from chimera.errors import BackendError
from chimera.store.apikeys import ApiKeys, new_key
from chimera.store.connection import Redis, connect
from chimera.store.ledger import Ledger
from chimera.store.tenants import TenantStore

LANES = 3
"""Clients of each tenant."""
TELL_S = 15.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a drill does.

    Attributes:
        minutes: of load and faults; the quiet at the end comes on top.
        tasks: inputs of each mission.
    """

    seed: int
    minutes: float
    faults: tuple[Fault, ...]
    tenants: int = 2
    tasks: int = 24

    @property
    def seconds(self) -> float:
        """Of load and faults."""
        return self.minutes * 60


async def drill(plan: Plan, site: Site, directory: Path, told: Callable[[str], None]) -> History:
    """Do it; a directory keeps journals, logs and the history.

    Raises:
        BackendError: the fleet ended, which no fault may bring about.
    """
    async with AsyncExitStack() as opened:
        redis = connect(site.settings)
        opened.push_async_callback(redis.aclose)
        keys = await _tenants(redis, plan.tenants)
        acks = Journal(directory / "acknowledged.ndjson")
        opened.callback(acks.close)
        rests = Journal(directory / "rests.ndjson")
        opened.callback(rests.close)
        lanes = []
        for number, (tenant, key) in enumerate(
            (tenant, key) for tenant, key in keys.items() for _ in range(LANES)
        ):
            client = await opened.enter_async_context(Client(site.fleet.url, key, timeout_s=10, retries=0))
            chance = random.Random(f"{plan.seed} {number}")  # nosec B311 : a plan that can be drawn again, no secret
            others = tuple(name for name in keys if name != tenant)
            lanes.append(Lane(client, tenant, acks, chance, plan.tasks, site.endpoint, others))
        await _beside(site, _harmed(plan, site, directory, lanes, told))
        told("no more faults: waiting until everything is at rest")
        await _beside(site, quiet(site.settings, tuple(keys), told))
        clients = {lane.tenant: lane.client for lane in lanes}
        told("at rest: waiting until no worker is left")
        await _beside(site, to_zero_and_back(site.settings, clients, rests, acks, told))
        await _beside(site, quiet(site.settings, tuple(keys), told))
        history = await gather(site.settings, tuple(keys), directory)
    history.keep(directory / "history.json")
    return history


async def _harmed(
    plan: Plan, site: Site, directory: Path, lanes: list[Lane], told: Callable[[str], None]
) -> None:
    faults = Journal(directory / "faults.ndjson")
    nemesis = Nemesis(site.settings, site.state, site.endpoint, directory, faults, told)
    began = time.monotonic()
    try:
        async with asyncio.timeout(plan.seconds + QUIET_S), asyncio.TaskGroup() as group:
            telling = group.create_task(_tell(lanes, began, told))
            working = [group.create_task(lane.run(began + plan.seconds)) for lane in lanes]
            await nemesis.run(schedule(plan.seed, plan.seconds, site.doable(plan.faults)))
            await asyncio.wait(working)
            telling.cancel()
    except TimeoutError:
        told("some missions are not final in time")
    finally:
        faults.close()


async def _tell(lanes: list[Lane], began: float, told: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        acknowledged, final = (
            sum(len(lane.acknowledged) for lane in lanes),
            sum(lane.finished for lane in lanes),
        )
        told(f"{time.monotonic() - began:.0f} s: {acknowledged} missions acknowledged, {final} final")


async def _beside(site: Site, work: Coroutine[Any, Any, T]) -> T:
    """Do it as long as the fleet has its supervisor."""
    working, ended = asyncio.ensure_future(work), asyncio.ensure_future(site.ended())
    try:
        await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise BackendError(f"the fleet has ended by itself: see {site.state.logs}")
        return working.result()
    finally:
        working.cancel()
        ended.cancel()
        await asyncio.gather(working, ended, return_exceptions=True)


async def _tenants(redis: Redis, count: int) -> dict[str, str]:
    """Fresh tenants, so that a fleet that has seen a drill may see another. Each has every limit there is."""
    store, api_keys, run = TenantStore(redis), ApiKeys(redis), uuid.uuid4().hex[:6]
    keys = {}
    for number in range(1, count + 1):
        name = f"drill-{run}-{number}"
        await store.add(name)
        keys[name] = new_key()
        await api_keys.let_in(name, keys[name])
        await Ledger(redis, name).set_limits(LIMITS, by="drill")
    return keys
