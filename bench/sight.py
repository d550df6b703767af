"""B9: what being watched costs: B1's tasks beside open dashboards, and while an MCP server is told."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle

from bench.figure import Figure
from bench.site import Site, others, seconds, site
from bench.usage import OURS
from bench.watcher import Watcher
from chimera.serving.gateway.dashboard import costs, fleet, throughput
from chimera.serving.local.ports import free_port
from chimera.store.exports import backlogs
from chimera.store.sinks import MCP

TASKS = 20_000
ROUNDS = 6
"""Of each kind."""
MISSION_TASKS, MISSIONS = 200_000, 2
SPAN_S = 2.0
"""Pages stay open, or closed, for so long."""
FRONT = ("gateway", "orchestrator", "governor")
"""Who works for those that watch; the others' time goes with the tasks."""
WORKERS, SLOTS = 2, 1_000
EVERY_S = 1.0
"""An open page asks for each of its panels so often, as browsers do."""
PAGES = {"Fleet": fleet.PANELS, "Throughput": throughput.PANELS, "Costs": (costs.SPEND, costs.BRAKE)}
"""Pages of the whole fleet that are open at once."""


async def run() -> AsyncIterator[Figure]:
    """What open dashboards cost, then what the sink does."""
    async for figure in dashboards():
        yield figure
    async for figure in sink():
        yield figure


async def dashboards() -> AsyncIterator[Figure]:
    """Pages are opened and closed every few seconds amid a mission: the machine's speed drifts by more."""
    asked: list[float] = []
    bare, seen = list[Span](), list[Span]()
    async with filled() as one:
        for _ in range(MISSIONS):
            mission_id = await one.submit("bench-noop", list(range(MISSION_TASKS)))
            await one.under_way(mission_id)
            for watched in cycle((False, True, True, False)):
                span = await _span(one, mission_id, asked, watched=watched)
                if span is None:
                    break
                (seen if watched else bare).append(span)
            await one.done(mission_id)
    pairs = min(len(bare), len(seen))
    bare, seen = bare[:pairs], seen[:pairs]
    rate, watched_rate = (
        sum(one.accepted for one in some) / sum(one.took_s for one in some) for some in (bare, seen)
    )
    error = 100 * statistics.stdev(a.rate / b.rate for a, b in zip(seen, bare, strict=True)) / pairs**0.5
    front = statistics.fmean(one.front for one in seen) - statistics.fmean(one.front for one in bare)
    yield Figure(
        "B9", "tasks a second, nobody watches", rate, "/s", method=f"{pairs} pairs of {SPAN_S:g} s in turn"
    )
    yield Figure("B9", "tasks a second, watched", watched_rate, "/s", method=f"open: {', '.join(PAGES)}")
    off = 100 * (1 - watched_rate / rate)
    yield Figure("B9", "off by dashboards", off, "%", 3, method=f"standard error {error:.1f} %")
    yield Figure(
        "B9",
        "of all processors for dashboards",
        100 * front / (os.cpu_count() or 1),
        "%",
        3,
        method=f"of {', '.join(FRONT)}, watched less bare",
    )
    yield Figure("B9", "a panel's answer meanwhile, median", 1e3 * statistics.median(asked), "ms")


@dataclass(frozen=True, slots=True)
class Span:
    """Some seconds amid a mission.

    Attributes:
        accepted: tasks.
        front: cores that `FRONT` kept busy.
    """

    accepted: int
    took_s: float
    front: float

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.accepted / self.took_s


async def _span(one: Site, mission_id: str, asked: list[float], *, watched: bool) -> Span | None:
    """The next seconds of a mission; None when it is over before."""
    async with AsyncExitStack() as stack:
        if watched:
            await stack.enter_async_context(_watched(one, asked))
        before, began, meter = await one.client.mission(mission_id), time.monotonic(), one.meter()
        await asyncio.sleep(SPAN_S)
        after, took_s = await one.client.mission(mission_id), time.monotonic() - began
        used = meter.stop()
    front = sum(used[kind].cpu_s for kind in FRONT if kind in used) / took_s
    over = after.final or after.accepted > 0.98 * MISSION_TASKS
    return None if over else Span(after.accepted - before.accepted, took_s, front)


async def sink() -> AsyncIterator[Figure]:
    """Rounds on fleets in turn, bare and telling an MCP server."""
    without, telling = list[Rounds](), list[Rounds]()
    for _ in range(2):
        async with filled() as one:
            without.append(await Rounds(one).several(ROUNDS // 2))
        async with _server() as told, filled(**told) as one:
            telling.append(await Rounds(one).several(ROUNDS // 2))
            began = time.monotonic()
            await _told(one)
            late_s = time.monotonic() - began
    bare, with_sink = Rounds.joined(without), Rounds.joined(telling)
    method = f"two fleets of each kind in turn, {ROUNDS // 2} rounds of {TASKS:,} tasks each, medians"
    yield Figure("B9", "tasks a second, no sink", bare.rate, "/s", method=method)
    yield Figure("B9", "tasks a second, recorder told to an MCP server", with_sink.rate, "/s")
    yield Figure("B9", "off by the MCP sink", with_sink.off(bare), "%", 10)
    for figure in with_sink.costs(bare, "the MCP sink"):
        yield figure
    yield Figure("B9", "the server has the last event after", late_s, "s", method="from the last verdict on")


class Rounds:
    """Missions one after another on one fleet, with what its processes used meanwhile."""

    def __init__(self, on: Site) -> None:
        self._on = on
        self.rates: list[float] = []
        self.cpu_ms: list[float] = []
        """A task, over Chimera and Redis."""

    async def add(self) -> None:
        """One more."""
        meter, began = self._on.meter(), time.time()
        mission = await self._on.done(await self._on.submit("bench-noop", list(range(TASKS))))
        used = meter.stop()
        assert mission.finished_at
        self.rates.append(TASKS / seconds(mission.finished_at, began))
        self.cpu_ms.append(1e3 * sum(used[kind].cpu_s for kind in OURS if kind in used) / TASKS)

    async def several(self, count: int) -> Rounds:
        """Some more."""
        for _ in range(count):
            await self.add()
        return self

    @classmethod
    def joined(cls, several: Sequence[Rounds]) -> Rounds:
        """All of several fleets."""
        made = cls(several[0]._on)
        for one in several:
            made.rates += one.rates
            made.cpu_ms += one.cpu_ms
        return made

    @property
    def rate(self) -> float:
        """Tasks a second, from submit to the last accepted verdict."""
        return statistics.median(self.rates)

    def off(self, bare: Rounds) -> float:
        """So many of a hundred tasks a second less."""
        return 100 * (1 - self.rate / bare.rate)

    def costs(self, bare: Rounds, what: str) -> Iterator[Figure]:
        """CPU a task, and how much more than bare."""
        ours, theirs = statistics.median(self.cpu_ms), statistics.median(bare.cpu_ms)
        yield Figure("B9", f"CPU a task beside {what}", ours, "ms", method="Chimera and Redis")
        yield Figure("B9", f"of it more than without {what}", 100 * (ours / theirs - 1), "%")


@asynccontextmanager
async def filled(**chosen: str) -> AsyncIterator[Site]:
    """A fleet whose workers are there and warm, until the block ends."""
    async with site(max_workers=str(WORKERS), slots=str(SLOTS), **chosen) as one:
        await one.fill(WORKERS, SLOTS)
        await Rounds(one).add()
        yield one


async def _told(one: Site) -> None:
    """Wait until the MCP server has all that is recorded."""
    while (await backlogs(one.redis, [one.name]))[one.name].behind(MCP):  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.2)


@asynccontextmanager
async def _watched(on: Site, took: list[float]) -> AsyncIterator[None]:
    """Dashboards of the whole fleet are open until the block ends; how long each answer took is added."""
    key = on.fleet.admin_key_file.read_text().strip()
    watchers_of = [Watcher(on.fleet.url, key, [panel.name for panel in panels]) for panels in PAGES.values()]
    watchers = [asyncio.create_task(one.watch(EVERY_S, took)) for one in watchers_of]
    try:
        yield
    finally:
        for one in watchers:
            one.cancel()
        for ended in await asyncio.gather(*watchers, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise RuntimeError("a dashboard got no answer") from ended


@asynccontextmanager
async def _server() -> AsyncIterator[dict[str, str]]:
    """An MCP server that takes events and keeps none, until the block ends; the settings that name it."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.receiver", "--port", str(port)), env=others()
    )
    try:
        yield {
            "mcp_url": f"http://127.0.0.1:{port}/mcp",
            "mcp_hosts": f"127.0.0.1:{port}",
            "mcp_tool": "take",
        }
    finally:
        process.kill()
        await process.wait()
