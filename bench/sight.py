"""B9: what being watched costs: B1's tasks beside open dashboards, and while an MCP server is told."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import httpx

from bench.figure import Figure
from bench.site import Site, others, seconds, site
from bench.usage import OURS
from chimera.serving.gateway.dashboard import costs, fleet, throughput
from chimera.serving.gateway.dashboard.panels import Panel
from chimera.serving.local.ports import free_port
from chimera.store.exports import backlogs
from chimera.store.sinks import MCP

NOT_MODIFIED = 304

TASKS = 20_000
ROUNDS = 6
"""Of each kind."""
WORKERS, SLOTS = 2, 1_000
EVERY_S = 1.0
"""An open page asks for each of its panels so often, as browsers do."""
PAGES = {"Fleet": fleet.PANELS, "Throughput": throughput.PANELS, "Costs": (costs.SPEND, costs.BRAKE)}
"""Pages of the whole fleet that are open at once."""


async def run() -> AsyncIterator[Figure]:
    """Rounds in turn, bare and watched; then, fleet by fleet in turn, bare and telling an MCP server."""
    asked: list[float] = []
    async with filled() as one:
        bare, seen = Rounds(one), Rounds(one)
        for number in range(ROUNDS):
            for watched in (number % 2 == 0, number % 2 == 1):
                if not watched:
                    await bare.add()
                    continue
                async with _watched(one, asked):
                    await seen.add()
    method = f"{ROUNDS} rounds each in turn of {TASKS:,} tasks, medians; open: {', '.join(PAGES)}"
    yield Figure("B9", "tasks a second, nobody watches", bare.rate, "/s", method=method)
    yield Figure("B9", "tasks a second, watched", seen.rate, "/s")
    yield Figure("B9", "off by dashboards", seen.off(bare), "%", 3)
    for figure in seen.costs(bare, "dashboards"):
        yield figure
    yield Figure("B9", "a panel's answer meanwhile, median", 1e3 * statistics.median(asked), "ms")
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
    headers = {"Authorization": f"Bearer {on.fleet.admin_key_file.read_text().strip()}"}

    async def watch(panels: Sequence[Panel]) -> None:
        tags: dict[str, str] = {}
        async with httpx.AsyncClient(base_url=on.fleet.url, headers=headers, trust_env=False) as http:
            while True:
                for panel in panels:
                    began = time.perf_counter()
                    tag = {"If-None-Match": tags.get(panel.name, "")}
                    answer = await http.get(f"/v1/panels/{panel.name}", timeout=30, headers=tag)
                    if answer.status_code != NOT_MODIFIED:
                        tags[panel.name] = answer.raise_for_status().headers["ETag"]
                    took.append(time.perf_counter() - began)
                await asyncio.sleep(EVERY_S)

    watchers = [asyncio.create_task(watch(panels)) for panels in PAGES.values()]
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
