"""What the flight recorder has of single tasks, for their pages: read once, then only what is new.

A tenant's log may be long, and a page is drawn each second. So who asks waits `PATIENCE_S` at most and is
given what was found so far; few are read at once, and those looked at longest ago are forgotten.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from chimera.core.event import Event, Position
from chimera.core.views import TaskView
from chimera.runtime.base import TenantStores

PATIENCE_S = 0.4
"""So long who asks waits for what is new."""
MOST_READ = 20_000
"""So many of a mission's events are read to find those of one task."""
MOST_EVENTS = 200
MOST_KEPT = 200
AT_ONCE = 2
"""Logs that are read at once in a process."""


@dataclass(slots=True)
class Trail:
    """One task's events, oldest first.

    Attributes:
        more: there may be events of it that are not here.
    """

    position: Position
    events: list[Event] = field(default_factory=list)
    more: bool = True
    looked: int = 0
    full: bool = False
    """No more of it are read."""
    reading: asyncio.Task[None] | None = None


class Trails:
    """Those that were looked at lately."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Trail] = OrderedDict()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def trail(self, stores: TenantStores, tenant: str, task: TaskView) -> Trail:
        """A task's events, as far as they were read.

        Raises:
            StoreError: the recorder cannot be read.
        """
        key = tenant, task.task_id
        if key not in self._kept:
            self._kept[key] = Trail(Position.before(int(task.planned_at.timestamp() * 1000)))
        self._kept.move_to_end(key)
        trail = self._kept[key]
        while len(self._kept) > MOST_KEPT:
            _, gone = self._kept.popitem(last=False)
            if gone.reading is not None:
                gone.reading.cancel()
        if not trail.full:
            if trail.reading is None or trail.reading.done():
                trail.reading = asyncio.create_task(
                    self._read(stores, trail, task), name=f"trail {tenant} {task.task_id}"
                )
            await asyncio.wait({trail.reading}, timeout=PATIENCE_S)
            if trail.reading.done() and not trail.reading.cancelled():
                trail.reading.result()
        return trail

    async def close(self) -> None:
        """Stop reading; twice is fine."""
        reading = [one.reading for one in self._kept.values() if one.reading is not None]
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        self._kept.clear()

    async def _read(self, stores: TenantStores, trail: Trail, task: TaskView) -> None:
        """What follows in the recorder. What was found stays, however this ends, and is gone on from."""
        async with self._room:
            pages = stores.recorder.pages(after=trail.position, mission_id=task.mission_id)
            async for reached, lines in pages:
                for at, event in lines:
                    trail.looked += 1
                    if event.task_id == task.task_id:
                        trail.events.append(event)
                    trail.position = at
                    if len(trail.events) >= MOST_EVENTS or trail.looked >= MOST_READ:
                        trail.full = True
                        return
                trail.position = reached
                if _behind(task, trail, lines[-1][1] if lines else None):
                    break
                await asyncio.sleep(0)
            trail.more = False


def _behind(task: TaskView, trail: Trail, last: Event | None) -> bool:
    """Whether what follows is behind the task's end. What settles later is read by the next who asks."""
    return bool(task.finished_at and trail.events and last and last.at > task.finished_at)
