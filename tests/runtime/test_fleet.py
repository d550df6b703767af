"""The whole main path in one event loop: real services, real Redis, no Ray."""

from __future__ import annotations

import asyncio
import io
import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from chimera.agents.context import Context
from chimera.agents.purse import Charge
from chimera.agents.registry import Registry
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.runtime.base import Base
from chimera.telemetry import logs
from tests.cli.conftest import own_logging
from tests.runtime.fleet import registry, running
from tests.store import drive


async def echo(task: Task, ctx: Context) -> Any:
    """Gives back its input."""
    return {"text": f"this is {task.input}"}


async def spend(task: Task, ctx: Context) -> Any:
    """Makes one paid call of 300 µ$, held at 500."""
    hold = await ctx.model.purse.reserve(amount_microusd=500, model="m", agent="spend", ttl_s=60)
    charge = Charge("m", 1, 1, 300, "test")
    await ctx.model.purse.settle(hold, cost_microusd=300, charge=charge)
    return f"paid for {task.input}"


async def test_a_mission_is_planned_worked_judged_and_completed(base: Base, tenant: str) -> None:
    async with running(base, tenant, registry(echo=echo)) as fleet:
        await fleet.submit(drive.spec(inputs=list(range(40))))
        mission = await fleet.rest()
        assert mission.status is MissionStatus.COMPLETED
        assert mission.counts["ACCEPTED"] == 40
        assert (await fleet.stores.tasks.get("m1.7")).result == {"text": "this is 7"}


async def test_a_reduce_brings_results_together(base: Base, tenant: str) -> None:
    async def total(task: Task, ctx: Context) -> Any:
        return sum(task.context.inputs.values())

    async def number(task: Task, ctx: Context) -> Any:
        return task.input

    mission = drive.spec(
        agent="number",
        inputs=list(range(10)),
        plan={"strategy": "map_reduce", "width": 3, "reduce": {"agent": "total"}},
    )
    async with running(base, tenant, registry(total=total, number=number)) as fleet:
        await fleet.submit(mission)
        assert (await fleet.rest()).status is MissionStatus.COMPLETED
        tops = [
            await fleet.stores.tasks.get(task_id)
            for task_id in await fleet.stores.missions.task_ids("m1")
            if task_id.startswith("m1.r3")
        ]
        assert [top.result for top in tops] == [45]


async def test_an_agent_that_raises_is_tried_again_and_then_fails(base: Base, tenant: str) -> None:
    async def broken(task: Task, ctx: Context) -> Any:
        raise RuntimeError("no idea")

    async with running(base, tenant, registry(broken=broken)) as fleet:
        await fleet.submit(drive.spec(agent="broken", inputs=["x"], max_attempts=2))
        mission = await fleet.rest()
        assert (mission.status, mission.reason) == (MissionStatus.FAILED, "min_accepted")
        task = await fleet.stores.tasks.get("m1.0")
        assert task.tallies["errors"] == 2
        assert "RuntimeError: no idea" in task.last_error


async def test_a_mission_ends_when_its_budget_is_exhausted_and_keeps_what_is_accepted(
    base: Base, tenant: str
) -> None:
    async with running(base, tenant, registry(spend=spend)) as fleet:
        await fleet.submit(drive.spec(agent="spend", inputs=list(range(6)), budget_usd=Decimal("0.001")))
        mission = await fleet.rest()
        assert (mission.status, mission.reason) == (MissionStatus.FAILED, "budget_exceeded")
        assert mission.settled_microusd <= 1000
        assert mission.counts["ACCEPTED"] >= 1
        assert mission.wanted_microusd == 500


async def test_a_mission_revived_under_a_larger_budget_finishes(base: Base, tenant: str) -> None:
    async with running(base, tenant, registry(spend=spend)) as fleet:
        await fleet.submit(drive.spec(agent="spend", inputs=list(range(6)), budget_usd=Decimal("0.001")))
        assert (await fleet.rest()).reason == "budget_exceeded"
        kept = (await fleet.stores.missions.get("m1")).counts["ACCEPTED"]
        await fleet.stores.missions.resume("m1", "op", by="eve", budget_microusd=10_000)
        mission = await fleet.rest()
        assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 6)
        assert kept >= 1
        assert mission.settled_microusd == 6 * 300


async def test_a_pause_holds_a_working_fleet_and_loses_nothing(base: Base, tenant: str) -> None:
    async def brief(task: Task, ctx: Context) -> Any:
        await asyncio.sleep(0.02)
        return task.input

    async with running(base, tenant, registry(brief=brief)) as fleet:
        await fleet.submit(drive.spec(agent="brief", inputs=list(range(200))))
        await fleet.until(lambda mission: mission.counts["ACCEPTED"] >= 20)
        await fleet.stores.missions.pause("m1", "op", by="eve")
        held = await fleet.until(lambda mission: mission.counts["PENDING"] == 0)
        assert held.status is MissionStatus.PAUSED
        assert held.counts["READY"] > 0
        await fleet.stores.missions.resume("m1", "op2", by="eve")
        mission = await fleet.rest()
        assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 200)


async def test_callers_on_a_tight_budget_wait_in_turn_and_all_finish(base: Base, tenant: str) -> None:
    async def cheap(task: Task, ctx: Context) -> Any:
        hold = await ctx.model.purse.reserve(amount_microusd=100, model="m", agent="cheap", ttl_s=60)
        await ctx.model.purse.settle(hold, cost_microusd=5, charge=Charge("m", 1, 1, 5, "test"))
        return "done"

    async with running(base, tenant, registry(cheap=cheap)) as fleet:
        # 60 tasks hold 100 each on a budget of 500: they contend, and no one ends the mission.
        await fleet.submit(drive.spec(agent="cheap", inputs=list(range(60)), budget_usd=Decimal("0.0005")))
        mission = await fleet.rest(timeout_s=40)
        assert mission.status is MissionStatus.COMPLETED
        assert (mission.counts["ACCEPTED"], mission.settled_microusd) == (60, 300)


async def test_code_that_holds_the_interpreter_is_named(base: Base, tenant: str) -> None:
    async def backtracks(task: Task, ctx: Context) -> Any:
        # Python's own engine tries every way to cut it, and lets no thread run meanwhile.
        began, length = time.monotonic(), 22
        while time.monotonic() - began < 2 * base.settings.lease_s:
            length += 1
            re.match(r"(a+)+$", "a" * length + "b")
        return "done"

    with capture_logs() as logs:
        async with running(base, tenant, registry(backtracks=backtracks)) as fleet:
            await fleet.submit(drive.spec(agent="backtracks", inputs=[1]))
            mission = await fleet.rest(timeout_s=40)
    assert mission.counts["ACCEPTED"] == 1
    named = [entry["task_id"] for entry in logs if entry["event"] == "worker.stalled"]
    assert "m1.0" in named


async def test_a_blocking_agent_costs_no_neighbour_its_lease(base: Base, tenant: str) -> None:
    async def blocks(task: Task, ctx: Context) -> Any:
        if task.input == 0:
            # Longer than many leases: the loop stands still, the renewer does not.
            time.sleep(3 * base.settings.lease_s)  # noqa: ASYNC251 (it is to block)
        else:
            await asyncio.sleep(0.05)
        return "done"

    async with running(base, tenant, registry(blocks=blocks)) as fleet:
        await fleet.submit(drive.spec(agent="blocks", inputs=list(range(16))))
        mission = await fleet.rest()
        assert mission.status is MissionStatus.COMPLETED
        assert "lapses" not in mission.tallies
        assert "crashes" not in mission.tallies


async def test_a_killed_workers_tasks_are_done_by_another(base: Base, tenant: str) -> None:
    begun = asyncio.Event()
    release = asyncio.Event()

    async def slow(task: Task, ctx: Context) -> Any:
        begun.set()
        await release.wait()
        return "done"

    async with running(base, tenant, registry(slow=slow)) as fleet:
        await fleet.submit(drive.spec(agent="slow", inputs=list(range(4))))
        await begun.wait()
        victim = fleet.workers.started[0]
        await fleet.workers.end(tenant, victim)
        release.set()
        mission = await fleet.rest()
        assert mission.status is MissionStatus.COMPLETED
        assert len(fleet.workers.started) >= 2


async def test_an_edited_goal_refuses_the_old_result_and_does_it_again(base: Base, tenant: str) -> None:
    goals: list[str] = []
    begun, edited = asyncio.Event(), asyncio.Event()

    async def states_goal(task: Task, ctx: Context) -> Any:
        goals.append(task.context.goal)
        begun.set()
        await edited.wait()
        return task.context.goal

    async with running(base, tenant, registry(states_goal=states_goal)) as fleet:
        await fleet.submit(drive.spec(agent="states_goal", inputs=["x"]))
        await begun.wait()
        await fleet.stores.missions.edit("m1", "op", by="me", goal="the new goal")
        edited.set()
        mission = await fleet.rest()
        assert goals == ["try", "the new goal"]
        assert (await fleet.stores.tasks.get("m1.0")).result == "the new goal"
        assert mission.tallies == {"stale": 1}


async def test_a_small_mission_lives_without_its_inputs_elsewhere(base: Base, tenant: str) -> None:
    """Planned at its submit: run, edited, failed, redriven, completed."""
    begun, edited = asyncio.Event(), asyncio.Event()
    mended = False

    async def states(task: Task, ctx: Context) -> Any:
        begun.set()
        await edited.wait()
        if task.input == "bad" and not mended:
            raise RuntimeError("not yet")
        return [task.input, task.context.goal]

    mission = drive.spec(agent="states", inputs=["good", "bad"], max_attempts=1, min_accepted=2)
    async with running(base, tenant, registry(states=states)) as fleet:
        await drive.submit(base, tenant, mission, at_once=True)
        await begun.wait()
        await fleet.stores.missions.edit("m1", "op", by="me", goal="the new goal")
        edited.set()
        assert (await fleet.rest()).reason == "min_accepted"
        mended = True
        assert await fleet.stores.missions.redrive("m1", ["m1.1"], "op", by="me") == 1
        done = await fleet.until(lambda one: one.status is MissionStatus.COMPLETED)
        results = await fleet.stores.tasks.results(["m1.0", "m1.1"])
    assert list(results.values()) == [["good", "the new goal"], ["bad", "the new goal"]]
    assert done.tallies["errors"] == 1
    assert not (base.settings.state_dir / "blobs" / tenant / "m1").exists()


async def test_an_attempt_that_never_returns_ends_at_its_time(base: Base, tenant: str) -> None:
    async def never(task: Task, ctx: Context) -> Any:
        await asyncio.Event().wait()

    async with running(base, tenant, registry(never=never)) as fleet:
        await fleet.submit(drive.spec(agent="never", inputs=["x"], task_timeout_s=0.3, max_attempts=2))
        mission = await fleet.rest()
        assert mission.tallies["timeouts"] == 2
        assert "errors" not in mission.tallies


async def test_idle_workers_drain_to_zero_and_wake_again(base: Base, tenant: str) -> None:
    async with running(base, tenant, registry(echo=echo)) as fleet:
        await fleet.submit(drive.spec())
        await fleet.rest()
        async with asyncio.timeout(15):
            await asyncio.gather(*(task for _, task in fleet.workers.running.values()))
        assert await fleet.workers.list() == {}
        await fleet.submit(drive.spec(), "m2")
        assert (await fleet.rest("m2")).status is MissionStatus.COMPLETED


async def test_a_sensitive_result_waits_for_a_human(base: Base, tenant: str) -> None:
    async def advises(task: Task, ctx: Context) -> Any:
        return "You should vote for the Green Party in the coming parliamentary election."

    async with running(base, tenant, registry(advises=advises)) as fleet:
        await fleet.submit(drive.spec(agent="advises", inputs=["x"]))
        mission = await fleet.rest()
        assert mission.status is MissionStatus.WAITING_REVIEW
        task = await fleet.stores.tasks.get("m1.0")
        assert task.verdicts[0].topics == ("politics",)


async def test_a_worker_that_fell_silent_is_replaced(base: Base, tenant: str) -> None:
    frozen, thaw = asyncio.Event(), asyncio.Event()

    async def freezes(task: Task, ctx: Context) -> Any:
        if not frozen.is_set():
            frozen.set()
            await thaw.wait()
        return "done"

    async with running(base, tenant, registry(freezes=freezes)) as fleet:
        await fleet.submit(drive.spec(agent="freezes", inputs=["x"]))
        await frozen.wait()
        # As a stopped process would: it exists, and neither renews nor beats.
        await fleet.workers.fall_silent(fleet.workers.started[0])
        mission = await fleet.rest()
        assert mission.status is MissionStatus.COMPLETED
        assert mission.tallies == {"crashes": 1}
        thaw.set()


OPTIONS = """
from pydantic import BaseModel
from chimera import agent

class Options(BaseModel):
    top: int = 3
    tone: str = "dry"

@agent("seen", options=Options)
async def seen(task, ctx):
    return ctx.options
"""


async def test_an_agent_finds_its_options_defaults(base: Base, tenant: str, tmp_path: Path) -> None:
    (tmp_path / "seen.py").write_text(OPTIONS, encoding="utf-8")
    async with running(base, tenant, Registry.load(str(tmp_path / "seen.py"))) as fleet:
        await fleet.submit(drive.spec(agent="seen", inputs=["x"], options={"top": 2}))
        await fleet.rest()
        assert (await fleet.stores.tasks.get("m1.0")).result == {"top": 2, "tone": "dry"}


async def test_a_verdict_says_when_it_was_reached_by_the_stores_clock(base: Base, tenant: str) -> None:
    async with running(base, tenant, registry(echo=echo)) as fleet:
        before = (await fleet.stores.missions.now_us()) // 1000
        await fleet.submit(drive.spec(inputs=["x"]))
        await fleet.rest()
        (verdict,) = (await fleet.stores.tasks.get("m1.0")).verdicts
        assert verdict.at_ms is not None
        assert before <= verdict.at_ms <= (await fleet.stores.missions.now_us()) // 1000 + 1


async def test_what_an_agent_raises_is_logged_with_its_traceback(base: Base, tenant: str) -> None:
    async def broken(task: Task, ctx: Context) -> Any:
        raise ValueError(f"no use for {task.input}")

    out = io.StringIO()
    async with running(base, tenant, registry(broken=broken)) as fleet:
        with own_logging():
            logs.configure(base.settings, role="worker", stream=out, capture_print=False)
            await fleet.submit(drive.spec(agent="broken", inputs=["x"], max_attempts=1))
            await fleet.rest()
    (record,) = [one for one in logs.parse(out.getvalue().splitlines()) if one.event == "agent.raised"]
    assert (record.task_id, record.attempt) == ("m1.0", 1)
    assert "in broken" in record.exception
    assert "ValueError: no use for x" in record.exception
