"""The exporter tells a real MCP server of every event, whatever server, leader and stream do meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from chimera.agents.context import Context
from chimera.core.arguments import event_id
from chimera.core.event import Event
from chimera.core.task import Task
from chimera.runtime import exporter as exporter_module
from chimera.runtime.archivist import Archivist
from chimera.runtime.base import Base, open_base
from chimera.runtime.exporter import Exporter
from chimera.runtime.exporting import SERVER
from chimera.runtime.pace import Pace
from chimera.store.exports import EVERY, Exports
from chimera.store.purge import purge
from tests.runtime.exporters import Lead, all_ids, delivered, exporting, until
from tests.runtime.fleet import registry, running
from tests.runtime.sense import Sense, repeated
from tests.store import drive, history

pytestmark = pytest.mark.usefixtures("quick")

ONE = '{"event": "{event}", "label": "{kind}"}'


async def test_every_event_is_told_once_and_in_order_where_nothing_fails(
    base: Base, tenant: str, sense: Sense
) -> None:
    await history.mission(base, tenant, "m1", inputs=30)
    await history.archive(base, tenant)
    await sense.start()
    async with exporting(base, sense, mcp_concurrency=1):
        await delivered(base, tenant)
        await history.mission(base, tenant, "m2", inputs=3)
        await delivered(base, tenant)
    told = sense.events(tenant)
    recorded = await history.read(base, tenant)
    assert [one["id"] for one in told] == [event_id(tenant, event) for _, event in recorded]
    assert [one["details"] for one in told] == [event.details for _, event in recorded]
    assert max(map(len, sense.calls())) == 7


async def test_while_tasks_wait_for_a_place_it_tells_at_its_share_and_all(
    base: Base, tenant: str, sense: Sense, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[bool]()

    class Watched(Pace):
        @asynccontextmanager
        async def turn(self) -> AsyncIterator[None]:
            seen.append(self.crowded)
            async with super().turn():
                yield

    monkeypatch.setattr(exporter_module, "Pace", Watched)
    await history.archive(base, tenant)
    await drive.begin(base, tenant, drive.spec(inputs=list(range(30))), "m1")  # and nobody claims its tasks
    await history.write(base, tenant, 30)
    await sense.start()
    async with exporting(base, sense, mcp_batch=5, mcp_concurrency=1):
        await delivered(base, tenant)
    assert set(sense.ids(tenant)) == await all_ids(base, tenant)
    assert all(seen)
    assert len(seen) > 2


@pytest.mark.parametrize("plan", [{"legacy": True}, {"json": True}, {}], ids=str)
async def test_servers_of_before_and_after_the_handshake_are_told(
    base: Base, tenant: str, sense: Sense, plan: dict[str, Any]
) -> None:
    await history.archive(base, tenant)
    await history.write(base, tenant, 5)
    await sense.start(**plan)
    async with exporting(base, sense, mcp_tool="record_one", mcp_arguments=ONE):
        await delivered(base, tenant)
        sense.kill()
        await history.write(base, tenant, 5)
        await sense.start(**plan)
        await delivered(base, tenant)
    assert set(sense.ids(tenant)) == await all_ids(base, tenant)
    assert all(len(call) == 1 for call in sense.calls())


@pytest.mark.unmeasured
async def test_nothing_is_missing_and_what_comes_again_bears_its_id_whatever_the_server_does(
    base: Base, tenant: str, sense: Sense
) -> None:
    """Errors, calls that never return, replies that are lost, 500s, and three kills in mid-flow."""
    plan = {"seed": 7, "error": 0.1, "hang": 0.03, "cut": 0.1, "broken": 0.03}
    await history.archive(base, tenant)
    await history.mission(base, tenant, "m1", inputs=60)
    await history.archive(base, tenant)  # the stream is read where it goes on from the archive
    near: dict[str, Any] = {"mcp_timeout_s": 0.5, "mcp_tries": 50, "mcp_batch": 5}
    await sense.start(**plan)
    async with exporting(base, sense, **near):
        for life in (1, 2, 3):
            came = len(sense.calls())
            await until(lambda came=came: len(sense.calls()) >= came + 4)  # type: ignore[misc]  # (mypy takes the default for a further argument)
            sense.kill()
            await history.mission(base, tenant, f"n{life}", inputs=20)
            await sense.start(**{**plan, "seed": life})
        await delivered(base, tenant)
    ids = sense.ids(tenant)
    assert set(ids) == await all_ids(base, tenant)
    assert repeated(ids) > 0, "what was lost on the way came again"
    said = {(one["id"], one["kind"], one["at"], str(one["details"])) for one in sense.events(tenant)}
    assert len(said) == len(set(ids)), "an id names one event"
    assert await Exports(base.redis, tenant).dead() == []


async def test_another_leader_goes_on_where_the_last_one_was(base: Base, tenant: str, sense: Sense) -> None:
    await history.archive(base, tenant)
    await history.mission(base, tenant, "m1", inputs=60)
    await sense.start(delay_s=0.01)
    first = Lead(drive.TERM)
    async with exporting(base, sense, first, mcp_batch=3):
        await until(lambda: len(sense.calls()) >= 5)
        async with exporting(base, sense, Lead(drive.TERM + 1), mcp_batch=3):
            await delivered(base, tenant)
            told = len(sense.ids(tenant))
            # The first still believes that it leads, and moves nothing any more.
            place = await Exports(base.redis, tenant).place()
    ids = sense.ids(tenant)
    assert set(ids) == await all_ids(base, tenant)
    assert told < 2 * len(set(ids)), "it did not begin anew"
    assert place.cursor is not None
    assert place.cursor.at.seq == len(set(ids))


async def test_a_crash_between_the_call_and_the_cursor_tells_again_under_the_same_ids(
    base: Base, tenant: str, sense: Sense, monkeypatch: pytest.MonkeyPatch
) -> None:
    await history.archive(base, tenant)
    await history.write(base, tenant, 6)
    await sense.start()
    advance = Exports.advance

    async def dies(*_: Any, **__: Any) -> None:
        raise ConnectionError("killed here")

    monkeypatch.setattr(Exports, "advance", dies)
    async with exporting(base, sense):
        await until(lambda: len(sense.ids(tenant)) >= 6)
    monkeypatch.setattr(Exports, "advance", advance)
    async with exporting(base, sense):
        await delivered(base, tenant)
    assert set(sense.ids(tenant)) == await all_ids(base, tenant)
    assert repeated(sense.ids(tenant)) == len(set(sense.ids(tenant)))


async def test_a_server_that_is_away_keeps_nothing_in_redis_and_is_told_later_from_the_archive(
    base: Base, tenant: str, sense: Sense
) -> None:
    async with open_small(base) as near, exporting(near, sense):
        await history.write(near, tenant, 40)
        await history.archive(near, tenant)
        await until_trouble(base, SERVER)
        assert int(await near.redis.xlen(near.of(tenant).sink.keys.log)) <= 3
        await history.write(near, tenant, 5)
        await sense.start()
        await delivered(near, tenant)
        assert set(sense.ids(tenant)) == await all_ids(near, tenant)
        assert len(set(sense.ids(tenant))) == 45
        assert await base.export_troubles.all() == {}


async def test_what_the_server_refuses_is_put_aside_and_the_rest_is_told(
    base: Base, tenant: str, sense: Sense
) -> None:
    await history.archive(base, tenant)
    await history.mission(base, tenant, "m1", inputs=4)
    await history.write(base, tenant, 2)
    await sense.start(refuses=["task.accepted"])
    exports = Exports(base.redis, tenant)
    async with exporting(base, sense, mcp_tries=2):
        await delivered(base, tenant)
    refused = {
        event_id(tenant, event)
        for _, event in await history.read(base, tenant)
        if event.kind == "task.accepted"
    }
    letters = await exports.dead()
    assert {one.id for one in letters} == refused
    assert set(sense.ids(tenant)) == await all_ids(base, tenant) - refused
    assert {(one.kind, one.mission_id, one.tries) for one in letters} == {("task.accepted", "m1", 2)}
    assert all(f"refuses {one.id}" in one.reason for one in letters)


async def test_dead_letters_are_told_when_somebody_says_so_and_never_when_they_are_dropped(
    base: Base, tenant: str, sense: Sense
) -> None:
    await history.archive(base, tenant)
    await history.mission(base, tenant, "m1", inputs=3)
    await history.archive(base, tenant)
    await sense.start(refuses=["task.accepted"])
    exports = Exports(base.redis, tenant)
    async with exporting(base, sense, mcp_tries=1):
        await delivered(base, tenant)
        dropped, *others = await exports.dead()
        assert await exports.answer("drop", [dropped.id], "op1", by="eve", reason="known") == 1
        assert await exports.answer("retry", [others[0].id], "op2", by="eve") == 1
        while (await exports.dead())[0].retrying:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)
        assert [one.tries for one in await exports.dead()] == [2, 1], "it was refused once more"
        sense.kill()
        await sense.start()
        assert await exports.answer("retry", [EVERY], "op3", by="eve") == 2
        while await exports.dead():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)
        await delivered(base, tenant)
    assert set(sense.ids(tenant)) == await all_ids(base, tenant) - {dropped.id}
    acts = [event for _, event in await history.read(base, tenant) if event.kind.startswith("export.")]
    assert [(one.kind, one.by) for one in acts] == [
        ("export.dropped", "eve"),
        *[("export.retried", "eve")] * 3,
    ]


async def refused_all(base: Base, tenant: str, sense: Sense, monkeypatch: pytest.MonkeyPatch) -> Exports:
    """Ten events that the server refuses, and room for three of them."""
    monkeypatch.setattr(exporter_module, "MOST_DEAD", 3)
    await history.archive(base, tenant)
    await history.write(base, tenant, 10)
    await sense.start(refuses=["limits.set"])
    return Exports(base.redis, tenant)


async def until_full(exports: Exports) -> None:
    while len(await exports.dead()) < 3:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.02)


async def test_too_many_dead_letters_hold_a_tenant_until_some_are_gone(
    base: Base, tenant: str, sense: Sense, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = await refused_all(base, tenant, sense, monkeypatch)
    async with exporting(base, sense, mcp_tries=1):
        await until_full(exports)
        place = await exports.place()
        assert place.cursor is not None
        assert place.cursor.at.seq == 3
        sense.kill()
        await sense.start()
        await exports.answer("retry", [EVERY], "op", by="eve")
        await delivered(base, tenant)
    assert set(sense.ids(tenant)) == await all_ids(base, tenant)


async def test_refusals_are_put_aside_in_the_order_of_events_whichever_is_answered_first(
    base: Base, tenant: str, sense: Sense, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = await refused_all(base, tenant, sense, monkeypatch)
    first, *_ = [event for _, event in await history.read(base, tenant)]
    answered: list[int] = []
    plainly = Exporter._try

    async def the_first_one_last(self: Exporter, of: str, events: Sequence[Event], *, tries: int) -> str:
        said = await plainly(self, of, events, tries=tries)
        if len(events) == 1:
            if events[0].seq == first.seq:
                await until(lambda: len(answered) == 9)
                answered.clear()
            else:
                answered.append(events[0].seq)
        return said

    monkeypatch.setattr(Exporter, "_try", the_first_one_last)
    async with exporting(base, sense, mcp_tries=1), asyncio.timeout(40):
        await until_full(exports)
        assert {letter.id for letter in await exports.dead()} == {
            event_id(tenant, event) for _, event in (await history.read(base, tenant))[:3]
        }


async def test_a_slow_server_of_one_tenants_flood_does_not_keep_another_waiting(
    base: Base, tenant: str, sense: Sense
) -> None:
    other = f"{tenant}-other"
    await base.tenants.add(other)
    for one in (tenant, other):
        await history.archive(base, one)
    await history.write(base, tenant, 300)
    await sense.start(delay_s=0.02)
    try:
        async with exporting(base, sense, mcp_batch=1):
            await until(lambda: sense.ids(tenant))
            await history.write(base, other, 1)
            await until(lambda: sense.ids(other))
            assert len(sense.ids(tenant)) < 300
    finally:
        await base.tenants.remove(other)


async def test_a_server_that_never_answers_holds_up_no_mission(base: Base, tenant: str, sense: Sense) -> None:
    """Though the exporter shares the loop with planner, workers and judge."""

    async def brief(task: Task, ctx: Context) -> Any:
        return task.input

    await sense.start(hang=1.0)
    async with running(base, tenant, registry(brief=brief)) as fleet:
        await fleet.submit(drive.spec(agent="brief", inputs=[1]), "m0")
        async with exporting(base, sense, Lead(1), mcp_timeout_s=60) as service:
            await until(service._gate._held.total)
            await fleet.submit(drive.spec(agent="brief", inputs=list(range(60))))
            assert (await fleet.rest()).counts["ACCEPTED"] == 60
            assert sense.calls() == []


async def test_only_the_kinds_and_the_time_that_are_wanted_are_told(
    base: Base, tenant: str, sense: Sense
) -> None:
    await history.archive(base, tenant)
    await history.write(base, tenant, 5)
    (*_, (_, last)) = await history.read(base, tenant)
    await sense.start()
    async with exporting(base, sense, mcp_since="2100-01-01T00:00:00Z"):
        await delivered(base, tenant)
        await history.mission(base, tenant, "m1")
        await delivered(base, tenant)
    assert {one["seq"] > last.seq for one in sense.events(tenant)} == {True}
    sense.journal.unlink()
    async with exporting(base, sense, mcp_kinds="task.*,mission.submitted"):
        await history.mission(base, tenant, "m2")
        await delivered(base, tenant)
    kinds = {one["kind"] for one in sense.events(tenant)}
    assert {one.partition(".")[0] for one in kinds} == {"task", "mission"}
    assert {one for one in kinds if one.startswith("mission.")} == {"mission.submitted"}


async def test_a_removed_tenant_is_told_of_to_its_end(base: Base, tenant: str, sense: Sense) -> None:
    name = f"{tenant}-gone"
    await base.tenants.create(name, by="o")
    await history.archive(base, name)
    await sense.start()
    async with exporting(base, sense):
        await until(lambda: sense.ids(name))
        await base.tenants.wind_up(name, "op", by="o", reason="over")
        await until(lambda: [one for one in sense.events(name) if one["kind"] == "tenant.removed"])
        # And of what is done to it later.
        await purge(base.redis, base.blobs, name, "op", by="o", reason="asked")
        await until(lambda: [one for one in sense.events(name) if one["kind"] == "tenant.purged"])


async def test_a_tenant_that_came_and_went_while_nobody_exported_is_told_of(
    base: Base, tenant: str, sense: Sense
) -> None:
    name = f"{tenant}-gone"
    await base.tenants.create(name, by="o")
    await history.archive(base, name)
    await base.tenants.wind_up(name, "op", by="o", reason="over")
    await sense.start()
    async with exporting(base, sense):
        await until(lambda: sense.ids(name))
        await delivered(base, name)
    assert set(sense.ids(name)) == await all_ids(base, name)


async def test_what_is_left_of_a_removed_tenant_is_told_though_the_store_restarts_before(
    base: Base, tenant: str, sense: Sense
) -> None:
    name = f"{tenant}-gone"
    await base.tenants.create(name, by="o")
    await history.archive(base, name)
    await base.tenants.wind_up(name, "op", by="o", reason="over")
    await base.redis.hset(base.of(name).recorder.keys.epochs, "run", "another")
    await sense.start()
    async with exporting(base, sense):
        keeper = Archivist(base, Lead())  # type: ignore[arg-type]  # (all it asks of one)
        await keeper.run_once()
        await until(lambda: [one for one in sense.events(name) if one["kind"] == "recorder.epoch"])
    assert set(sense.ids(name)) == await all_ids(base, name)


@pytest.mark.parametrize(
    ("plan", "changes", "said"),
    [
        (
            {},
            {"mcp_tool": "score"},
            "has no tool 'score': it has record_events, record_one. Set CHIMERA_MCP_TOOL",
        ),
        ({}, {"mcp_arguments": '{"evnts": "{event}"}'}, "the tool needs 'events', which is not there"),
        ({"key": "right"}, {}, "refuses the credentials (401): check CHIMERA_MCP_HEADERS"),
        ({}, {"mcp_url": "/nothing"}, "has no MCP at this path (404): check CHIMERA_MCP_URL"),
        (None, {}, "cannot be reached: ConnectError"),
    ],
)
async def test_what_is_wrong_with_the_setting_is_said_with_the_next_step_and_nothing_is_put_aside(
    base: Base, tenant: str, sense: Sense, plan: dict[str, Any] | None, changes: dict[str, Any], said: str
) -> None:
    await history.archive(base, tenant)
    await history.write(base, tenant, 3)
    if plan is not None:
        await sense.start(**plan)
    if "mcp_url" in changes:
        changes = {"mcp_url": sense.url.replace("/mcp", changes["mcp_url"])}
    async with exporting(base, sense, **changes):
        trouble = await until_trouble(base, SERVER)
    assert said in trouble["reason"]
    assert await Exports(base.redis, tenant).dead() == []
    assert (await Exports(base.redis, tenant).place()).cursor is None


async def test_a_server_that_takes_nothing_more_in_mid_session_is_tried_ever_more_seldom(
    base: Base, tenant: str, sense: Sense
) -> None:
    await history.archive(base, tenant)
    await history.write(base, tenant, 3)
    await sense.start(later=429)
    async with exporting(base, sense):
        await delivered(base, tenant)
        await history.write(base, tenant, 3)
        while (await until_trouble(base, SERVER))["failures"] < 3:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)
        assert "answers 429" in (await until_trouble(base, SERVER))["reason"]
        sense.kill()
        await sense.start()
        await delivered(base, tenant)
        while await base.export_troubles.all():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)
    assert set(sense.ids(tenant)) == await all_ids(base, tenant)
    assert await Exports(base.redis, tenant).dead() == []


async def test_the_headers_go_along(base: Base, tenant: str, sense: Sense) -> None:
    await history.archive(base, tenant)
    await history.write(base, tenant, 3)
    await sense.start(key="right")
    async with exporting(base, sense, mcp_headers=SecretStr('{"X-Sense-Key": "right"}')):
        await delivered(base, tenant)
    assert set(sense.ids(tenant)) == await all_ids(base, tenant)


async def test_nothing_is_told_under_a_number_that_is_not_for_good(
    base: Base, tenant: str, sense: Sense
) -> None:
    """Before the archivist has opened the epoch of the store's process, numbers may be given again."""
    await history.write(base, tenant, 3)
    await sense.start()
    async with exporting(base, sense) as service:
        for _ in range(3):
            await service.run_once()
        assert sense.ids(tenant) == []
        await history.archive(base, tenant)
        await delivered(base, tenant)
    assert set(sense.ids(tenant)) == await all_ids(base, tenant)


async def until_trouble(base: Base, who: str) -> dict[str, Any]:
    while who not in (found := await base.export_troubles.all()):  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.02)
    return found[who]


@asynccontextmanager
async def open_small(base: Base) -> AsyncIterator[Base]:
    """With a live window of three entries."""
    near = await open_base(base.settings.model_copy(update={"recorder_live": 3}))
    try:
        yield near
    finally:
        await near.close()
