"""B9: what being watched costs: B1's tasks beside open dashboards, and while an MCP server is told."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from bench.figure import Figure
from bench.site import Site, others, seconds, site
from bench.usage import OURS
from chimera.serving.local.ports import free_port

TASKS = 10_000
ROUNDS = 3
WORKERS, SLOTS = 2, 1_000
WATCHERS = 5
"""Dashboards that are open at once."""
EVERY_S = 1.0
"""Each asks for every panel so often, as the pages do."""
PANELS = ("health", "fleet", "throughput", "spend")


async def run() -> AsyncIterator[Figure]:
    """Rounds in turn, bare and watched; then on a fleet of the same kind that tells an MCP server."""
    async with site(max_workers=str(WORKERS), slots=str(SLOTS)) as fleet:
        await fleet.fill(WORKERS, SLOTS)
        await _round(fleet)
        bare: list[float] = []
        seen: list[float] = []
        took: list[float] = []
        for _ in range(ROUNDS):
            bare.append(await _round(fleet))
            async with _watched(fleet, took):
                seen.append(await _round(fleet))
    method = (
        f"{ROUNDS} rounds each in turn of {TASKS:,} tasks; {WATCHERS} dashboards, every panel each second"
    )
    off = 100 * (1 - statistics.median(seen) / statistics.median(bare))
    yield Figure("B9", "tasks a second, nobody watches", statistics.median(bare), "/s", method=method)
    yield Figure("B9", "tasks a second, watched", statistics.median(seen), "/s")
    yield Figure("B9", "off by dashboards", off, "%", 3)
    yield Figure("B9", "a panel's answer meanwhile, median", 1e3 * statistics.median(took), "ms")
    async with _server() as told, site(max_workers=str(WORKERS), slots=str(SLOTS), **told) as fleet:
        await fleet.fill(WORKERS, SLOTS)
        await _round(fleet)
        meter = fleet.meter()
        with_sink = [await _round(fleet) for _ in range(ROUNDS)]
        used = meter.stop()
    off = 100 * (1 - statistics.median(with_sink) / statistics.median(bare))
    yield Figure("B9", "tasks a second, recorder told to an MCP server", statistics.median(with_sink), "/s")
    yield Figure(
        "B9", "off by the MCP sink", off, "%", 10, method="another fleet of the same kind, not in turn"
    )
    for kind in OURS:
        if kind in used:
            cpu_ms = 1e3 * used[kind].cpu_s / (ROUNDS * TASKS)
            yield Figure("B9", f"CPU a task with the MCP sink, {kind}", cpu_ms, "ms")


async def _round(fleet: Site) -> float:
    """Tasks a second, from submit to the last accepted verdict."""
    began = time.time()
    mission = await fleet.done(await fleet.submit("bench-noop", list(range(TASKS))))
    assert mission.finished_at
    return TASKS / seconds(mission.finished_at, began)


@asynccontextmanager
async def _watched(fleet: Site, took: list[float]) -> AsyncIterator[None]:
    """Dashboards of the whole fleet are open until the block ends; how long each answer took is added."""
    headers = {"Authorization": f"Bearer {fleet.fleet.admin_key_file.read_text().strip()}"}

    async def watch() -> None:
        async with httpx.AsyncClient(base_url=fleet.fleet.url, headers=headers, trust_env=False) as http:
            while True:
                for panel in PANELS:
                    began = time.perf_counter()
                    (await http.get(f"/v1/panels/{panel}", timeout=30)).raise_for_status()
                    took.append(time.perf_counter() - began)
                await asyncio.sleep(EVERY_S)

    watchers = [asyncio.create_task(watch()) for _ in range(WATCHERS)]
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
        yield {"mcp_url": f"http://127.0.0.1:{port}/mcp", "mcp_hosts": "127.0.0.1", "mcp_tool": "take"}
    finally:
        process.kill()
        await process.wait()
