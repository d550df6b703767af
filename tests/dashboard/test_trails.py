"""Trails of real tasks: read once however often a page is drawn, and then only what is new."""

from __future__ import annotations

import asyncio
from typing import Any

from chimera.core.views import TaskView
from chimera.dashboard.trails import Trails
from chimera.runtime.base import Base, TenantStores
from chimera.serving.gateway.render import task_view
from tests.store import drive


async def seen(stores: TenantStores, task_id: str = "m1.0") -> TaskView:
    reading = await stores.readings.open("m1")
    record, _ = await reading.task(task_id)
    return task_view(record, reading.mission, {}, [])


async def test_a_task_is_read_on_from_where_it_was_read(base: Base, tenant: str) -> None:
    stores, trails, begun = await drive.begin(base, tenant, drive.spec()), Trails(), []
    pages = stores.recorder.pages

    def noting(**how: Any) -> Any:
        begun.append(how["after"])
        return pages(**how)

    stores.recorder.pages = noting  # type: ignore[method-assign]  # (a reader of the test, in its place)
    one, *_ = await drive.claim(stores)
    first = await trails.trail(stores, tenant, await seen(stores, one.task_id))
    assert [event.kind for event in first.events] == ["task.claimed"]
    assert not first.more
    await drive.hand_in(stores, one)
    second = await trails.trail(stores, tenant, await seen(stores, one.task_id))
    assert [event.kind for event in second.events] == ["task.claimed", "task.submitted"]
    assert begun[1] > begun[0]
    await trails.close()


async def test_who_looks_does_not_wait_until_a_long_log_is_read(base: Base, tenant: str) -> None:
    stores, trails = await drive.over(base, tenant), Trails()
    pages, goes_on = stores.recorder.pages, asyncio.Event()

    async def halves(**how: Any) -> Any:
        async for reached, lines in pages(**how):
            yield lines[len(lines) // 2][0], lines[: len(lines) // 2 + 1]
            await goes_on.wait()
            yield reached, lines[len(lines) // 2 + 1 :]

    stores.recorder.pages = halves  # type: ignore[method-assign]  # (a reader of the test, in its place)
    task = await seen(stores)
    so_far = await trails.trail(stores, tenant, task)
    assert so_far.more
    goes_on.set()
    whole = await trails.trail(stores, tenant, task)
    assert not whole.more
    assert [event.kind for event in whole.events][-1] == "task.accepted"
    await trails.close()
