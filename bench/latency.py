"""B3: how long one task takes from submit to accepted, at a hundred a second, alone and beside a load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

from bench.figure import Figure, percentile
from bench.site import Site, site
from chimera.errors import InvalidTransition

RATE, FOR_S, WORK_S = 100, 20, 0.01
LOW, LOW_S = 10_000, 0.5


async def run() -> AsyncIterator[Figure]:
    """Percentiles of submit → accepted: alone, high priority over a backlog, beside a noisy tenant."""
    async with site(max_workers="2", slots="200", express_slots="50") as fleet:
        await fleet.warm("bench-wait", 400)
        alone = await _trickle(fleet, "medium")
        for figure in _figures("alone", alone, p50=15, p99=50):
            yield figure
        backlog = await fleet.submit("bench-wait", [LOW_S] * LOW, priority="low")
        await fleet.under_way(backlog)
        for figure in _figures(f"high, {LOW:,} low ones wait", await _trickle(fleet, "high"), p99=100):
            yield figure
        await _over(fleet, backlog)
    async with (
        site(max_workers="2", slots="200", express_slots="50") as fleet,
        fleet.tenant("noisy") as noisy,
    ):
        await fleet.warm("bench-wait", 400)
        backlog = await noisy.submit("bench-wait", [LOW_S] * LOW)
        await noisy.under_way(backlog)
        for figure in _figures("high, beside a noisy tenant", await _trickle(fleet, "high"), p99=100):
            yield figure
        await _over(noisy, backlog)


async def _over(fleet: Site, mission_id: str) -> None:
    """End what is left of a backlog."""
    with suppress(InvalidTransition):  # it may have ended by itself
        await fleet.client.cancel(mission_id)


async def _trickle(fleet: Site, priority: str) -> list[float]:
    """Missions of one task each, at their times whatever becomes of those before; seconds of each."""
    missions: list[tuple[str, float]] = []

    async def one(due: float) -> None:
        await asyncio.sleep(due - time.time())
        mission_id = await fleet.submit("bench-wait", [WORK_S], priority=priority)
        missions.append((mission_id, due))

    before = await fleet.recorder.last()
    start = time.time() + 0.5
    await asyncio.gather(*(one(start + number / RATE) for number in range(RATE * FOR_S)))
    accepted = await fleet.accepted_at({mission_id for mission_id, _ in missions}, after=before)
    return [accepted[mission_id] - due for mission_id, due in missions]


def _figures(
    name: str, took: list[float], *, p50: float | None = None, p99: float | None = None
) -> list[Figure]:
    method = (
        f"{RATE}/s of {1e3 * WORK_S:g} ms for {FOR_S} s; a mission each, HTTP included; from when it was due"
    )
    shown: list[tuple[str, Callable[[], float], float | None]] = [
        ("p50", lambda: percentile(took, 0.5), p50),
        ("p99", lambda: percentile(took, 0.99), p99),
        ("max", lambda: max(took), None),
    ]
    made = [Figure("B3", f"{name}: {what}", 1e3 * value(), "ms", bar) for what, value, bar in shown]
    return [replace(made[0], method=method), *made[1:]]
