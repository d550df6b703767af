"""What the gateway stands on: one process's connections, probes of the hub's parts, its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from prometheus_client import CollectorRegistry

from chimera.core.views import Health
from chimera.dashboard.films import Films
from chimera.dashboard.throughput import Histories
from chimera.dashboard.trails import Trails
from chimera.errors import ChimeraError, StoreTimeout
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.serving.gateway.breakdowns import Breakdowns
from chimera.serving.gateway.foundgood import FoundGood
from chimera.serving.gateway.reports import Reports
from chimera.store.connection import remarks
from chimera.store.elections import Election
from chimera.store.room import FULL_AT
from chimera.telemetry.metrics import Metrics

T = TypeVar("T")

Probe: TypeAlias = Callable[[], Awaitable[Health]]
"""Asks one part of the hub how it is. It may raise a `ChimeraError`, which counts as ill."""

STORE_S = 2.5
"""A caller hears within this time that the store does not answer."""
PROBE_S = 2.0
"""A part that takes longer to say how it is counts as ill."""


@dataclass(frozen=True, eq=False)
class Hub:
    """The gateway's surroundings.

    Args:
        base: settings, connections and stores of this process.
        probes: parts of the hub by name (``orchestrator``, ``judge``, ``governor``, ``recorder``,
            ``retention``, ``export``, ``canary``), beside ``redis``, which is always asked. The hub is ready
            when all but the last four of these are well.
        besides: further parts that the dashboard shows (``model``); readiness does not hang on them.
        metrics: the instruments; `/metrics` shows their registry.
        found_good: what missions asked for and was checked already.
        bulkhead: names what of a tenant is damaged, once a minute.
        reports: where reports of spend are made, few at once.
        breakdowns: those that the dashboard shows, kept for a while.
        histories: tenants' last hour, as far as the dashboard was asked for it.
        films: missions as they can be looked at at any moment.
        trails: what the flight recorder has of tasks that are looked at.
        max_requests: requests under way at once in this process, streams among them.
        max_tenant_requests: of these, of one tenant.
        max_streams: event streams open at once in this process.
        max_tenant_streams: of these, by one tenant.
    """

    base: Base
    probes: Mapping[str, Probe] = field(default_factory=dict)
    besides: Mapping[str, Probe] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))
    found_good: FoundGood = field(default_factory=FoundGood)
    bulkhead: Bulkhead = field(default_factory=lambda: Bulkhead("gateway"))
    reports: Reports = field(default_factory=Reports)
    breakdowns: Breakdowns = field(default_factory=Breakdowns)
    histories: Histories = field(default_factory=Histories)
    films: Films = field(default_factory=Films)
    trails: Trails = field(default_factory=Trails)
    max_requests: int = 2_000
    max_tenant_requests: int = 1_000
    max_streams: int = 512
    max_tenant_streams: int = 64

    async def health(self, *, whole: bool = False) -> dict[str, Health]:
        """Every part's health, all asked at once; `whole`: those besides, too."""
        probes = {"redis": self._redis, **self.probes, **(self.besides if whole else {})}
        answers = await asyncio.gather(*(_ask(name, probe) for name, probe in probes.items()))
        return dict(zip(probes, answers, strict=True))

    async def _redis(self) -> Health:
        said = await remarks(self.base.redis)
        if (taken := await self.base.room.taken()) >= FULL_AT:
            said.append(f"Redis is {taken:.0%} full: new missions are refused until there is room")
        return Health(ok=True, detail="; ".join(said))


def leads(election: Election) -> Probe:
    """A probe of a role that is led by one replica: well while somebody leads."""

    async def probe() -> Health:
        leader = await election.leader()
        if leader is None:
            return Health(ok=False, detail=f"nobody leads as {election.role}: a replica takes it in seconds")
        return Health(ok=True, detail=leader)

    return probe


@asynccontextmanager
async def promptly(seconds: float = STORE_S) -> AsyncIterator[None]:
    """Bounds what is awaited inside: a store that accepts and never answers becomes an error.

    Raises:
        StoreTimeout: the time is up.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise StoreTimeout(
            f"the store did not answer within {seconds:g} s: try again; a repeated request with the same "
            "Idempotency-Key is done once"
        ) from exc


async def each_promptly(items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """The same items, each within the time of `promptly`."""
    while True:
        try:
            async with promptly():
                item = await anext(items)
        except StopAsyncIteration:
            return
        yield item


async def _ask(name: str, probe: Probe) -> Health:
    try:
        async with asyncio.timeout(PROBE_S):
            return await probe()
    except TimeoutError:
        return Health(ok=False, detail=f"{name} did not answer within {PROBE_S:g} s")
    except ChimeraError as exc:
        return Health(ok=False, detail=str(exc))
