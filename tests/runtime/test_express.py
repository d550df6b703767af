"""A worker's express slots: no other work fills them, whatever comes in whatever order."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from chimera.agents.context import Context
from chimera.core.task import Priority, Task
from chimera.runtime.base import Base
from chimera.store.tasks import TaskStore
from tests.runtime.fleet import Workers, registry
from tests.store import drive


class Room:
    """Agents that stay until told, counted by priority."""

    def __init__(self) -> None:
        self.inside: Counter[Priority] = Counter()
        self.most: Counter[Priority] = Counter()
        self.changed, self.leave = asyncio.Event(), asyncio.Event()

    async def stay(self, task: Task, ctx: Context) -> Any:
        self.inside[task.priority] += 1
        self.most |= self.inside
        self.changed.set()
        await self.leave.wait()
        self.inside[task.priority] -= 1
        return "done"

    async def holds(self, **inside: int) -> None:
        async with asyncio.timeout(10):
            while any(self.inside[Priority(name)] < count for name, count in inside.items()):
                self.changed.clear()
                await self.changed.wait()


def agent_in(room: Room) -> Any:
    async def stay(task: Task, ctx: Context) -> Any:
        return await room.stay(task, ctx)

    return stay


@pytest.fixture
def base_of_four(base: Base) -> Base:
    return replace(base, settings=base.settings.model_copy(update={"slots": 4, "express_slots": 1}))


async def test_ordinary_work_never_fills_the_express_slot(base_of_four: Base, tenant: str) -> None:
    base, room = base_of_four, Room()
    workers = Workers(base.settings, registry(stay=agent_in(room)))
    for name, priority in (("m1", "low"), ("m2", "medium")):
        await drive.begin(base, tenant, drive.spec(agent="stay", inputs=[0] * 20, priority=priority), name)
    await workers.start(tenant, "w1")
    try:
        async with asyncio.timeout(10):
            while room.inside.total() < 3:
                room.changed.clear()
                await room.changed.wait()
        await drive.begin(base, tenant, drive.spec(agent="stay", inputs=[0], priority="high"), "m3")
        await room.holds(high=1)
        assert room.inside.total() == 4
        assert room.most[Priority.LOW] + room.most[Priority.MEDIUM] <= 3 + room.most[Priority.HIGH] - 1
    finally:
        await workers.close()


async def test_high_priority_may_fill_every_slot(base_of_four: Base, tenant: str) -> None:
    base, room = base_of_four, Room()
    workers = Workers(base.settings, registry(stay=agent_in(room)))
    await drive.begin(base, tenant, drive.spec(agent="stay", inputs=[0] * 9, priority="high"))
    await workers.start(tenant, "w1")
    try:
        await room.holds(high=4)
    finally:
        await workers.close()


async def test_a_worker_full_of_ordinary_work_does_not_ring_for_itself(
    base_of_four: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, room, asked = base_of_four, Room(), Counter[str]()
    claim = TaskStore.claim

    async def counted(self: TaskStore, worker: str, *args: Any, **more: Any) -> Any:
        asked[worker] += 1
        return await claim(self, worker, *args, **more)

    monkeypatch.setattr(TaskStore, "claim", counted)
    workers = Workers(base.settings, registry(stay=agent_in(room)))
    await drive.begin(base, tenant, drive.spec(agent="stay", inputs=[0] * 20, priority="low"))
    await workers.start(tenant, "w1")
    try:
        await room.holds(low=3)
        asked.clear()
        await asyncio.sleep(1.0)  # so long it does nothing but look, now and then
        assert asked["w1"] <= 8
    finally:
        await workers.close()
