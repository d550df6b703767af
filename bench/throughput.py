"""B1: 20,000 tasks that do nothing, submit to the last accepted verdict; beside it the floor."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from bench.figure import Figure
from bench.floor import floor
from bench.site import seconds, site
from bench.usage import OURS

TASKS = 20_000
WORKERS, SLOTS = 2, 1_000


async def run() -> AsyncIterator[Figure]:
    """tasks/s, CPU a task, peak memory."""
    async with site(max_workers=str(WORKERS), slots=str(SLOTS)) as fleet:
        await fleet.fill(WORKERS, SLOTS)  # what a start costs is B5's
        meter = fleet.meter()
        began = time.time()
        mission_id = await fleet.submit("bench-noop", list(range(TASKS)))
        mission = await fleet.done(mission_id)
        used = meter.stop()
        assert mission.finished_at
        took = seconds(mission.finished_at, began)
        bare = await floor(fleet.settings, TASKS)
    method = f"{TASKS:,} tasks in one mission, schema judge, {WORKERS} workers of {SLOTS:,} slots"
    yield Figure("B1", "tasks a second", TASKS / took, "/s", 4_000, most=False, method=method)
    ours = sum(used[kind].cpu_s for kind in OURS if kind in used)
    yield Figure("B1", "CPU a task, Chimera and Redis", 1e3 * ours / TASKS, "ms", 0.4, method="user + system")
    for kind in sorted(used, key=lambda kind: -used[kind].cpu_s):
        yield Figure("B1", f"CPU a task, {kind}", 1e3 * used[kind].cpu_s / TASKS, "ms")
    yield Figure("B1", "peak resident", meter.peak_bytes / 2**20, "MiB")
    yield Figure("B1", "floor: tasks a second", bare.tasks_a_second, "/s", method=bare.method)
    yield Figure("B1", "floor: CPU a task", bare.cpu_ms, "ms", method="client and Redis")
