"""The inbox shows who waits longest first, over all tenants, by the page, and what of it cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chimera.core.verdict import Decision, Verdict
from chimera.dashboard.inbox import PAGE, inbox_panel, neighbours
from chimera.runtime.base import Base, TenantStores
from tests.dashboard.trips import trips
from tests.store import drive


@pytest.fixture
async def other(base: Base, tenant: str) -> AsyncIterator[str]:
    """A second tenant."""
    name = f"{tenant}-b"
    await base.tenants.add(name)
    yield name
    await base.tenants.remove(name)


async def escalated(
    base: Base, tenant: str, mission_id: str = "m1", inputs: int = 1, topics: tuple[str, ...] = ()
) -> TenantStores:
    """A mission, all of whose tasks wait for a human."""
    stores = await drive.begin(
        base, tenant, drive.spec(inputs=list(range(inputs)), goal="Say it."), mission_id
    )
    for one in await drive.claim(stores, inputs):
        assert await drive.hand_in(stores, one, {"said": one.input_json}) is None
    verdict = Verdict(decision=Decision.ESCALATE, confidence=0.8, judge="j1", topics=topics)
    for held in await drive.review(stores, inputs):
        assert await drive.judge(stores, held, verdict) is None
    return stores


async def test_a_row_says_what_it_is_and_why_it_waits(base: Base, tenant: str) -> None:
    stores = await escalated(base, tenant, topics=("health",))
    panel = await inbox_panel(base, [tenant])
    (row,) = panel.rows
    assert (row.task_id, row.mission_id, row.tenant) == ("m1.0", "m1", tenant)
    assert (row.agent, row.goal, row.reason, row.attempt) == ("echo", "Say it.", "judge", 1)
    assert (row.confidence, row.topics, row.acts) == (0.8, ("health",), False)
    assert row.result_bytes == len('{"said":"0"}')
    events = [event async for _, event in stores.recorder.read() if event.kind == "task.escalated"]
    assert row.since == events[0].at
    assert (panel.waiting, panel.page, panel.pages, panel.bounded) == (1, 1, 1, False)


async def test_who_waits_longest_is_first_whosever_it_is(base: Base, tenant: str, other: str) -> None:
    await escalated(base, tenant, "m1")
    await escalated(base, other, "m2")
    await escalated(base, tenant, "m3")
    panel = await inbox_panel(base, [other, tenant])
    assert [(row.tenant, row.task_id) for row in panel.rows] == [
        *((tenant, "m1.0"), (other, "m2.0"), (tenant, "m3.0"))
    ]
    assert [row.task_id for row in (await inbox_panel(base, [tenant])).rows] == ["m1.0", "m3.0"]


async def test_a_long_inbox_is_shown_by_the_page(base: Base, tenant: str) -> None:
    await escalated(base, tenant, inputs=PAGE + 3)
    first, second = [await inbox_panel(base, [tenant], page=page) for page in (1, 2)]
    assert (len(first.rows), len(second.rows), first.waiting, first.pages) == (PAGE, 3, PAGE + 3, 2)
    assert len({row.task_id for row in (*first.rows, *second.rows)}) == PAGE + 3
    assert (await inbox_panel(base, [tenant], page=99)).rows == second.rows


async def test_it_is_filtered_by_mission_and_by_topic(base: Base, tenant: str) -> None:
    await escalated(base, tenant, "m1", topics=("health",))
    await escalated(base, tenant, "m2", inputs=2, topics=("legal", "health"))
    await escalated(base, tenant, "m3")

    async def shown(**how: str) -> tuple[list[str], int]:
        panel = await inbox_panel(
            base, [tenant], mission_id=how.get("mission", ""), topic=how.get("topic", "")
        )
        return sorted(row.task_id for row in panel.rows), panel.waiting

    assert await shown(mission="m2") == (["m2.0", "m2.1"], 2)
    assert await shown(topic="health") == (["m1.0", "m2.0", "m2.1"], 3)
    assert await shown(topic="legal", mission="m1") == ([], 0)
    assert await shown(mission="m") == ([], 0)  # a mission's id, not its beginning


async def test_a_damaged_record_is_named_beside_the_others(base: Base, tenant: str) -> None:
    stores = await escalated(base, tenant, inputs=2)
    await base.redis.rpush(stores.reviews.keys.of("verdicts", "m1.0"), "{")
    panel = await inbox_panel(base, [tenant])
    assert [row.task_id for row in panel.rows] == ["m1.1"]
    assert [one.id for one in panel.damaged] == ["m1.0"]
    assert (await inbox_panel(base, [tenant], topic="x")).rows == ()


async def test_whoever_goes_through_them_is_led_to_the_next(base: Base, tenant: str) -> None:
    await escalated(base, tenant, inputs=3)
    ids = [row.task_id for row in (await inbox_panel(base, [tenant])).rows]

    async def around(task_id: str) -> list[str | None]:
        return [one.task_id if one else None for one in await neighbours(base, [tenant], task_id)]

    assert [await around(one) for one in (*ids, "gone.0")] == [
        *([None, ids[1]], [ids[0], ids[2]], [ids[1], None], [None, ids[0]])
    ]


async def test_an_inbox_of_nobody_is_empty(base: Base) -> None:
    panel = await inbox_panel(base, [])
    assert (panel.rows, panel.waiting) == ((), 0)
    assert await neighbours(base, [], "m1.0") == (None, None)


async def test_a_hundred_tenants_cost_no_more_round_trips_than_one(base: Base, tenant: str) -> None:
    await escalated(base, tenant, inputs=3, topics=("health",))
    counts = []
    for some in ([tenant], [tenant, *(f"{tenant}-{number}" for number in range(99))]):
        with trips(base) as count:
            await inbox_panel(base, some, topic="health")
        counts.append(count())
    assert 0 < counts[0] == counts[1] <= 5
