"""The time to acceptance of high priority, by the store's clock: what counts, and what does not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest

from chimera.core.histogram import BOUNDS_MS
from chimera.runtime.base import Base, TenantStores
from chimera.store.promises import served
from chimera.store.tasks import Ended
from chimera.telemetry.metrics import SECONDS
from tests.store import clock, drive

START = 1_800_000_000.0


class Run:
    """One tenant, whose time the test tells."""

    def __init__(self, base: Base, tenant: str) -> None:
        self.base, self.tenant, self.now = base, tenant, START

    @property
    def stores(self) -> TenantStores:
        return self.base.of(self.tenant)

    async def after(self, seconds: float) -> None:
        self.now += seconds
        await clock.set_to(self.base, self.tenant, datetime.fromtimestamp(self.now, UTC))

    async def begin(self, mission_id: str = "m1", **fields: Any) -> None:
        await drive.begin(
            self.base, self.tenant, drive.spec(**{"priority": "high", "inputs": [1], **fields}), mission_id
        )

    async def reviewed(self) -> Any:
        """One task worked on, its result with the judge."""
        (one,) = await drive.claim(self.stores, lease_s=9e5)
        assert await drive.hand_in(self.stores, one) is None
        (held,) = await drive.review(self.stores, lease_s=9e5)
        return held

    async def accept(self) -> None:
        assert await drive.judge(self.stores, await self.reviewed()) is None

    async def told(self, kind: str = "") -> list[tuple[str, Any]]:
        """What was accepted, with its time, and what was told as a breach."""
        wanted = {"task.accepted", "task.approved"} if not kind else {kind}
        events = [event async for _, event in self.stores.recorder.read()]
        return [(event.task_id, event.details.get("took_ms")) for event in events if event.kind in wanted]


@pytest.fixture
async def run(base: Base, tenant: str) -> AsyncIterator[Run]:
    with clock.set_by_hand():
        made = Run(base, tenant)
        await made.after(0)
        yield made


async def test_the_time_runs_from_submit_to_the_verdict(run: Run) -> None:
    await drive.submit(run.base, run.tenant, drive.spec(priority="high", inputs=[1]))
    await run.after(2)
    assert await drive.plan(run.base, run.tenant, drive.spec(priority="high", inputs=[1]))
    await run.after(3.5)
    held = await run.reviewed()
    await run.after(1)
    await drive.judge(run.stores, held)
    assert await run.told() == [("m1.0", 6_500)]
    assert await run.told("slo.breached") == []


async def test_later_than_promised_is_an_event_and_counted(run: Run) -> None:
    await run.begin(inputs=[1, 2])
    await run.after(10)
    await run.accept()
    await run.after(0.001)
    await run.accept()
    assert await run.told("slo.breached") == [("m1.1", 10_001)]
    found = (await served(run.base.redis, [run.tenant]))[run.tenant]
    assert (sum(found.within), found.seconds, found.breaches) == (2, 20.001, 1)
    assert found.within[BOUNDS_MS.index(10_000)] == found.within[BOUNDS_MS.index(30_000)] == 1


async def test_time_in_which_a_human_is_asked_does_not_count(run: Run) -> None:
    await run.begin()
    await run.after(2)
    await drive.judge(run.stores, await run.reviewed(), drive.verdict("escalate", 0.8))
    await run.after(3_600)
    await run.stores.reviews.answer("m1.0", "op", verdict=drive.verdict(), by="eve", max_stale=5)
    assert await run.told() == [("m1.0", 2_000)]
    assert await run.told("slo.breached") == []


async def test_a_result_that_a_human_rejects_goes_on_where_its_time_stopped(run: Run) -> None:
    await run.begin()
    for n in range(2):
        await run.after(2)
        await drive.judge(run.stores, await run.reviewed(), drive.verdict("escalate", 0.8))
        await run.after(100)
        no = drive.verdict("reject", 0.0)
        await run.stores.reviews.answer("m1.0", f"op{n}", verdict=no, by="eve", max_stale=5)
    await run.after(3)
    await run.accept()
    assert await run.told() == [("m1.0", 7_000)]


async def test_a_pause_does_not_count_nor_twice_with_a_human_in_it(run: Run) -> None:
    await run.begin(inputs=[1, 2])
    await run.after(1)
    await drive.judge(run.stores, await run.reviewed(), drive.verdict("escalate", 0.8))
    await run.after(10)
    await run.stores.missions.pause("m1", "p", by="test")
    await run.after(100)
    await run.stores.missions.resume("m1", "r", by="test")
    await run.after(10)
    await run.stores.reviews.answer("m1.0", "op", verdict=drive.verdict(), by="eve", max_stale=5)
    await run.after(2)
    await run.accept()
    assert await run.told() == [("m1.0", 1_000), ("m1.1", 23_000)]


async def test_a_verdict_that_comes_in_a_pause_counts_to_its_begin(run: Run) -> None:
    await run.begin()
    held = await run.reviewed()
    await run.after(4)
    await run.stores.missions.pause("m1", "p", by="test")
    await run.after(100)
    await drive.judge(run.stores, held)
    assert await run.told() == [("m1.0", 4_000)]


async def test_a_task_that_takes_others_results_begins_when_they_are_there(run: Run) -> None:
    nodes = [{"name": "a"}, {"name": "b", "depends_on": ["a"]}]
    await run.begin(inputs=[], plan={"strategy": "dag", "nodes": nodes})
    await run.after(8)
    await run.accept()
    await run.after(7)
    await run.accept()
    assert await run.told() == [("m1.a", 8_000), ("m1.b", 7_000)]


async def test_a_rejection_and_an_error_count_in(run: Run) -> None:
    await run.begin()
    await run.after(5)
    await drive.judge(run.stores, await run.reviewed(), drive.verdict("reject", 0.1))
    (one,) = await drive.claim(run.stores, lease_s=9e5)
    await run.after(5)
    await run.stores.tasks.end("w1", [Ended(one.task_id, one.token, "error")])
    await run.after(2)
    await run.accept()
    assert await run.told("slo.breached") == [("m1.0", 12_000)]


async def test_a_redriven_task_begins_anew_and_what_came_back_with_it_does_not_count_the_end(
    run: Run,
) -> None:
    await run.begin(inputs=[1, 2], max_attempts=1, on_task_failure="stop")
    await run.after(3)
    (one,) = await drive.claim(run.stores, lease_s=9e5)
    await run.stores.tasks.end("w1", [Ended(one.task_id, one.token, "error")])
    await drive.end(run.stores)
    await run.after(1_000)
    assert await run.stores.missions.redrive("m1", ["m1.0"], "op", by="eve") == 1
    await drive.end(run.stores)
    await run.after(2)
    await run.accept()
    await run.accept()
    assert sorted(await run.told()) == [("m1.0", 2_000), ("m1.1", 5_000)]


async def test_other_priorities_are_not_timed(run: Run) -> None:
    for name, priority in (("m1", "medium"), ("m2", "low")):
        await run.begin(name, priority=priority)
    await run.after(60)
    for _ in range(2):
        await run.accept()
    assert [took for _, took in await run.told()] == [None, None]
    assert sum((await served(run.base.redis, [run.tenant]))[run.tenant].within) == 0


def test_the_bounds_are_the_same_everywhere() -> None:
    text = (files("chimera.store") / "lua" / "include" / "record.lua").read_text(encoding="utf-8")
    (bounds,) = re.findall(r"BOUNDS_MS = \{ ([\d, ]+) \}", text)
    assert tuple(map(int, bounds.split(", "))) == BOUNDS_MS
    assert tuple(ms / 1000 for ms in BOUNDS_MS) == SECONDS
