"""One worker: what it holds twice, hands back, or can give to nobody."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

import pytest
from structlog.testing import capture_logs

from chimera.agents.context import Context
from chimera.core.task import Task
from chimera.runtime.base import Base
from chimera.runtime.crew import Crew, watch
from tests.runtime.fleet import registry, running
from tests.store import drive


async def test_the_end_of_a_lost_attempt_takes_nothing_from_the_new_one_of_the_same_task(
    base: Base, tenant: str
) -> None:
    begun, go_on = [asyncio.Event(), asyncio.Event()], asyncio.Event()

    async def patient(task: Task, ctx: Context) -> Any:
        begun[ctx.attempt - 1].set()
        await go_on.wait()
        return ctx.attempt

    async with running(base, tenant, registry(patient=patient)) as fleet:
        await fleet.submit(drive.spec(agent="patient", inputs=["x"]))
        await begun[0].wait()
        # Its lease runs out although it lives; it takes the task again before it is told.
        rescued = 0
        while not rescued:  # unless its heartbeat comes between
            await base.redis.zadd(fleet.stores.tasks.keys.leases, {"m1.0": 1})
            rescued, *_ = await fleet.stores.tasks.rescue("test", lease_s=base.settings.lease_s)
        await begun[1].wait()
        await asyncio.sleep(2 * base.settings.lease_s)  # what it holds now it must keep
        go_on.set()
        mission = await fleet.rest()
        assert mission.tallies == {"lapses": 1}
        assert (await fleet.stores.tasks.get("m1.0")).result == 2


async def test_whatever_an_agent_raises_ends_its_attempt_and_nothing_else(base: Base, tenant: str) -> None:
    class Odd(BaseException):
        """An error that `except Exception` does not see, such as some test tools raise."""

    async def awaits_what_it_cancelled(_task: Task, _ctx: Context) -> Any:
        helper = asyncio.create_task(asyncio.sleep(60))
        helper.cancel()
        await helper

    async def leaves(_task: Task, _ctx: Context) -> Any:
        sys.exit("no input")

    async def odd(_task: Task, _ctx: Context) -> Any:
        raise Odd

    def leaves_its_thread(_task: Task, _ctx: Context) -> Any:
        sys.exit("no input")

    def finds_nothing(_task: Task, _ctx: Context) -> Any:
        return next(iter([]))

    def passes_for_cancelled(_task: Task, _ctx: Context) -> Any:
        raise asyncio.CancelledError

    agents = {
        "awaits_what_it_cancelled": (awaits_what_it_cancelled, "CancelledError"),
        "leaves": (leaves, "SystemExit: no input"),
        "odd": (odd, "Odd"),
        "leaves_its_thread": (leaves_its_thread, "SystemExit: no input"),
        "finds_nothing": (finds_nothing, "StopIteration"),
        "passes_for_cancelled": (passes_for_cancelled, "CancelledError"),
    }
    plan = {"strategy": "dag", "nodes": [{"name": name.replace("_", "-"), "agent": name} for name in agents]}
    async with running(base, tenant, registry(**{name: run for name, (run, _) in agents.items()})) as fleet:
        await fleet.submit(drive.spec(plan=plan, inputs=(), max_attempts=1, min_accepted=0))
        mission = await fleet.rest()
        assert mission.tallies == {"errors": len(agents)}
        for name, (_, cause) in agents.items():
            record = await fleet.stores.tasks.get(f"m1.{name.replace('_', '-')}")
            assert (record.status, record.attempt) == ("FAILED", 1)
            assert record.last_error.startswith(f"agent {name!r} raised {cause}")
        assert len(fleet.workers.started) == 1


async def _leave(after: asyncio.Event | None = None) -> None:
    if after is not None:
        await after.wait()
    sys.exit("no input")


async def awaits_who_leaves(_task: Task, _ctx: Context) -> Any:
    return await asyncio.create_task(_leave())


async def waits_for_something_else(_task: Task, _ctx: Context) -> Any:
    helper = asyncio.create_task(_leave())
    assert not helper.done()
    await asyncio.Event().wait()


async def gathers(_task: Task, _ctx: Context) -> Any:
    return await asyncio.gather(asyncio.sleep(60), _leave(), return_exceptions=True)


async def groups(_task: Task, _ctx: Context) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(_leave())


async def starts_who_starts_who_leaves(_task: Task, _ctx: Context) -> Any:
    async def between() -> None:
        await asyncio.create_task(_leave())

    await asyncio.create_task(between())


async def is_interrupted(_task: Task, _ctx: Context) -> Any:
    async def interrupted() -> None:
        raise KeyboardInterrupt("no input")

    await asyncio.create_task(interrupted())


async def leaves_when_cancelled(_task: Task, _ctx: Context) -> Any:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            sys.exit("no input")

    helper = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    helper.cancel()
    await asyncio.wait({helper})
    await asyncio.Event().wait()


async def will_hear_nothing_of_it(_task: Task, _ctx: Context) -> Any:
    helper = asyncio.create_task(_leave())
    try:
        await helper
    except BaseException:  # noqa: BLE001  (what it is a test of)
        return "never mind"


LEAVERS = [
    awaits_who_leaves,
    waits_for_something_else,
    gathers,
    groups,
    starts_who_starts_who_leaves,
    is_interrupted,
    leaves_when_cancelled,
    will_hear_nothing_of_it,
]


@pytest.mark.parametrize("leaver", LEAVERS, ids=lambda leaver: leaver.__name__)
async def test_a_task_of_an_agent_that_leaves_ends_its_attempt_and_nothing_else(
    leaver: Any, base: Base, tenant: str
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def neighbour(_task: Task, _ctx: Context) -> Any:
        begun.set()
        await go_on.wait()
        return "done"

    async def leaves(task: Task, ctx: Context) -> Any:
        await begun.wait()
        return await leaver(task, ctx)

    nodes = [{"name": name, "agent": name} for name in ("neighbour", "leaves")]
    agents = registry(neighbour=neighbour, leaves=leaves)
    # Captured: structlog's own way to paint a traceback, with all locals, holds up the loop for seconds.
    with capture_logs() as logs:
        async with running(base, tenant, agents) as fleet:
            plan = {"strategy": "dag", "nodes": nodes}
            await fleet.submit(drive.spec(plan=plan, inputs=(), max_attempts=1, min_accepted=0))
            await fleet.until(lambda mission: mission.counts["FAILED"] == 1)
            go_on.set()
            mission = await fleet.rest()
            assert mission.counts["ACCEPTED"] == 1, "its neighbour went on"
            assert mission.tallies == {"errors": 1}
            error = (await fleet.stores.tasks.get("m1.leaves")).last_error
            assert re.fullmatch("agent 'leaves' raised (SystemExit|KeyboardInterrupt): no input", error)
            assert len(fleet.workers.started) == 1
    assert len([line for line in logs if line["event"] == "agent.raised"]) == 1


async def test_a_task_that_leaves_when_its_attempt_is_over_is_logged_and_changes_nothing(
    base: Base, tenant: str
) -> None:
    over = asyncio.Event()
    helpers: list[asyncio.Task[None]] = []

    async def forgetful(task: Task, _ctx: Context) -> Any:
        if task.input == "first":
            helpers.append(asyncio.create_task(_leave(over)))
        return "done"

    async with running(base, tenant, registry(forgetful=forgetful)) as fleet:
        await fleet.submit(drive.spec(agent="forgetful", inputs=["first"]))
        assert (await fleet.rest()).counts["ACCEPTED"] == 1
        with capture_logs() as logs:
            over.set()
            await asyncio.wait(helpers)
        assert [line["error"] for line in logs if line["event"] == "agent.left_late"] == [
            "SystemExit('no input')"
        ]
        await fleet.submit(drive.spec(agent="forgetful", inputs=["second"]), "m2")
        assert (await fleet.rest("m2")).tallies == {}


async def test_who_is_cancelled_from_outside_while_a_task_of_it_leaves_ends_cancelled() -> None:
    """An attempt whose lease is lost: somebody else has its task, so there is nothing to report."""

    async def attempt() -> None:
        main = asyncio.current_task()
        assert main is not None
        with Crew():
            helper = asyncio.create_task(_leave())
            try:
                await asyncio.wait({helper})
            finally:
                main.cancel()

    watch(asyncio.get_running_loop())
    cancelled = asyncio.create_task(attempt())
    await asyncio.wait({cancelled})
    assert cancelled.cancelled()
