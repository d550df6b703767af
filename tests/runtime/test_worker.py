"""One worker: what it holds twice, hands back, or can give to nobody."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from chimera.agents.context import Context
from chimera.core.task import Task
from chimera.runtime.base import Base
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
        await base.redis.zadd(fleet.stores.tasks.keys.leases, {"m1.0": 1})
        await fleet.stores.tasks.rescue("test", lease_s=base.settings.lease_s)
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
