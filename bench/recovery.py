"""B4: a worker is killed with half of the work in hand: what that adds, loses or does twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator

from bench.figure import Figure
from bench.site import seconds, site

TASKS, WORK_S = 200, 1.0


async def run() -> AsyncIterator[Figure]:
    """Seconds added, tasks lost, results committed twice."""
    async with site(max_workers="2", slots=str(TASKS // 2 + 2)) as fleet:
        # All at once on both, and again, undisturbed.
        await fleet.done(await fleet.submit("bench-wait", [WORK_S] * TASKS))
        took: list[float] = []
        accepted: list[str] = []
        for kill in (False, True):
            began = time.time()
            mission_id = await fleet.submit("bench-wait", [WORK_S] * TASKS)
            if kill:
                await fleet.under_way(mission_id)
                os.kill(await fleet.busiest_worker(), signal.SIGKILL)
            mission = await fleet.done(mission_id)
            assert mission.finished_at
            took.append(seconds(mission.finished_at, began))
            events = await fleet.events(mission_id)
            accepted = [event.task_id for event in events if event.kind == "task.accepted"]
    method = f"{TASKS} tasks of {WORK_S:g} s over two workers, one SIGKILLed"
    yield Figure("B4", "added by a killed worker", took[1] - took[0], "s", 5, method=method)
    yield Figure("B4", "undisturbed", took[0], "s")
    yield Figure("B4", "lost", TASKS - len(set(accepted)), "", 0)
    yield Figure("B4", "committed twice", len(accepted) - len(set(accepted)), "", 0)
