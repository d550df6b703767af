"""From an agent's `ctx.propose` to a real receiver, through worker, judge, human and courier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from chimera.agents.context import Context
from chimera.chaos.checker import verdict_first
from chimera.chaos.history import History, TenantEnd
from chimera.core.action import HttpAction
from chimera.core.event import Event
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.runtime.base import Base
from tests.runtime.fleet import Fleet, registry, running
from tests.runtime.receiver import Receiver, receiving
from tests.store import drive


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
def open_base(base: Base, receiver: Receiver) -> Base:
    """Settings that let actions reach the receiver."""
    settings = base.settings.model_copy(update={"action_hosts": receiver.host})
    return replace(base, settings=settings, _stores={})


async def sent(fleet: Fleet, n: int) -> None:
    await fleet.until(lambda mission: mission.actions["DONE"] == n)


async def test_what_coroutines_and_threads_propose_is_sent_once_each(
    open_base: Base, tenant: str, receiver: Receiver
) -> None:
    async def announces(task: Task, ctx: Context) -> Any:
        for part in ("a", "b"):
            ctx.propose(HttpAction(url=receiver.url, body={"of": task.input, "part": part}))
        return f"announced {task.input}"

    def blocks(task: Task, ctx: Context) -> Any:
        ctx.propose(HttpAction(url=receiver.url, body={"of": task.input}))
        return f"announced {task.input}"

    async with running(open_base, tenant, registry(announces=announces, blocks=blocks)) as fleet:
        await fleet.submit(drive.spec(agent="announces", inputs=[1, 2, 3]))
        await fleet.submit(drive.spec(agent="blocks", inputs=[4]), "m2")
        await sent(fleet, 6)
        await fleet.until(lambda mission: mission.actions["DONE"] == 1, "m2")
    keys = sorted(call.key for call in receiver.calls)
    first = [f"{tenant}/m1.{task}/{index}" for task in range(3) for index in range(2)]
    assert keys == [*first, f"{tenant}/m2.0/0"]


async def test_a_rejected_result_sends_nothing_and_the_next_ones_actions_are_sent(
    open_base: Base, tenant: str, receiver: Receiver
) -> None:
    async def learns(task: Task, ctx: Context) -> Any:
        ctx.propose(HttpAction(url=receiver.url, body={"attempt": ctx.attempt}))
        return "good enough" if ctx.attempt == 2 else "poor"

    judge = [{"policy": "rules", "required": ["good enough"]}]
    async with running(open_base, tenant, registry(learns=learns)) as fleet:
        await fleet.submit(drive.spec(agent="learns", inputs=["x"], judge=judge))
        await sent(fleet, 1)
    assert [call.body for call in receiver.calls] == [{"attempt": 2}]


async def test_an_agent_that_raises_after_proposing_sends_nothing(
    open_base: Base, tenant: str, receiver: Receiver
) -> None:
    async def breaks(task: Task, ctx: Context) -> Any:
        ctx.propose(HttpAction(url=receiver.url))
        raise RuntimeError("no")

    async with running(open_base, tenant, registry(breaks=breaks)) as fleet:
        await fleet.submit(drive.spec(agent="breaks", inputs=["x"], max_attempts=1))
        assert (await fleet.rest()).status is MissionStatus.FAILED
        assert await drive.kinds(fleet.stores) == []
    assert receiver.calls == []


async def test_a_host_that_is_not_allowed_ends_the_attempt_with_the_setting_named(
    open_base: Base, tenant: str, receiver: Receiver
) -> None:
    async def strays(task: Task, ctx: Context) -> Any:
        ctx.propose(HttpAction(url="http://elsewhere.example/"))
        return "sent"

    async with running(open_base, tenant, registry(strays=strays)) as fleet:
        await fleet.submit(drive.spec(agent="strays", inputs=["x"], max_attempts=1))
        await fleet.rest()
        error = (await fleet.stores.tasks.get("m1.0")).last_error
        assert "add elsewhere.example to CHIMERA_ACTION_HOSTS" in error


async def test_a_human_sees_the_action_and_only_an_approval_sends_it(
    open_base: Base, tenant: str, receiver: Receiver
) -> None:
    async def advises(task: Task, ctx: Context) -> Any:
        # The result is harmless: what the action says is not.
        ctx.propose(HttpAction(url=receiver.url, body={"text": "Take 400 mg of ibuprofen every six hours."}))
        return f"noted {task.input}"

    async with running(open_base, tenant, registry(advises=advises)) as fleet:
        await fleet.submit(drive.spec(agent="advises", inputs=["yes", "no"], max_attempts=1))
        assert (await fleet.rest()).status is MissionStatus.WAITING_REVIEW
        shown = await fleet.stores.tasks.get("m1.0")
        assert shown.verdicts[0].topics == ("health",)
        assert shown.proposed[0].url == receiver.url
        assert receiver.calls == []
        await fleet.stores.reviews.answer(
            "m1.1", "op1", verdict=drive.verdict("reject", 0), by="eve", max_stale=5
        )
        await fleet.stores.reviews.answer("m1.0", "op2", verdict=drive.verdict(), by="eve", max_stale=5)
        await sent(fleet, 1)
        assert (await fleet.rest()).status is MissionStatus.COMPLETED
    assert [call.key for call in receiver.calls] == [f"{tenant}/m1.0/0"]


async def test_a_mission_that_moved_on_sends_only_what_was_done_anew(
    open_base: Base, tenant: str, receiver: Receiver
) -> None:
    begun, edited = asyncio.Event(), asyncio.Event()

    async def states_goal(task: Task, ctx: Context) -> Any:
        ctx.propose(HttpAction(url=receiver.url, body={"goal": task.context.goal}))
        begun.set()
        await edited.wait()
        return task.context.goal

    async with running(open_base, tenant, registry(states_goal=states_goal)) as fleet:
        await fleet.submit(drive.spec(agent="states_goal", inputs=["x"]))
        await begun.wait()
        await fleet.stores.missions.edit("m1", "op", by="me", goal="the new goal")
        edited.set()
        await sent(fleet, 1)
    assert [call.body for call in receiver.calls] == [{"goal": "the new goal"}]


async def test_a_mission_is_completed_while_its_actions_are_still_under_way(
    open_base: Base, tenant: str, receiver: Receiver
) -> None:
    receiver.answers.append((503, "Retry-After: 2\r\n"))

    async def announces(task: Task, ctx: Context) -> Any:
        ctx.propose(HttpAction(url=receiver.url))
        return "announced"

    async with running(open_base, tenant, registry(announces=announces)) as fleet:
        await fleet.submit(drive.spec(agent="announces", inputs=["x"]))
        mission = await fleet.rest()
        assert (mission.status, mission.actions["QUEUED"]) == (MissionStatus.COMPLETED, 1)
        await sent(fleet, 1)


async def test_the_checker_of_a_drill_finds_an_action_before_its_verdict(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant)
    (one,) = await drive.errands(stores)
    await drive.report(stores, one)
    events = [event async for _, event in stores.recorder.read()]

    def found(entries: list[Event]) -> list[str]:
        end = TenantEnd(
            events=tuple(entries),
            missions=(),
            results={},
            verdicts={"m1.0": 1},
            held_microusd=0,
            open_holds=0,
        )
        return verdict_first(History(tenants={tenant: end}, acknowledged=(), calls=(), faults=()))[1]

    assert found(events) == []
    early = found([event for event in events if event.kind != "task.accepted"])
    assert len(early) == 3
    assert "(action.queued) comes before its verdict" in early[0]
