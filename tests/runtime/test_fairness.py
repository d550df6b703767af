"""One tenant's backlog, slow judge, slow agent or crash loop is its own: counted in turns, not in seconds."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from chimera.agents.context import Context
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.judging.boundaries import load_boundaries
from chimera.runtime import judge as judges
from chimera.runtime import orchestrator as orchestrators
from chimera.runtime.base import Base
from chimera.runtime.elector import Elector
from chimera.runtime.governor import BATCH, Governor
from chimera.runtime.judge import AT_ONCE, Judge
from chimera.runtime.orchestrator import Orchestrator, Rescuer
from chimera.store import keys
from chimera.store.signals import Wakeups
from chimera.store.tasks import HandedIn
from tests.runtime.fleet import registry, running
from tests.runtime.test_fleet import echo
from tests.store import drive

judging = importlib.import_module("chimera.judging.evaluate")  # its package has a function of that name


@pytest.fixture(autouse=True)
def logs() -> Iterator[Any]:
    """Tracebacks with all locals, printed by the hundred, would hold up the loop."""
    with capture_logs() as found:
        yield found


@pytest.fixture
async def crowd(base: Base, tenant: str) -> AsyncIterator[str]:
    """A tenant with more work than its share; looked at before the test's other one."""
    name = f"a-{tenant}"
    await base.tenants.add(name)
    yield name
    await base.tenants.remove(name)


async def in_review(base: Base, tenant: str, tasks: int, goal: str = "try") -> None:
    """So many results that wait for the judge."""
    stores = await drive.begin(base, tenant, drive.spec(goal=goal, inputs=list(range(tasks))))
    claims = await drive.claim(stores, tasks, lease_s=60)
    handed = [HandedIn(one.task_id, one.token, one.state_version, "1") for one in claims]
    assert await stores.tasks.submit("w1", handed, max_stale=5) == [None] * tasks


async def counts(base: Base, tenant: str) -> dict[str, int]:
    return (await base.of(tenant).missions.get("m1")).counts


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def a_judge(base: Base) -> AsyncIterator[Judge]:
    async with Wakeups(base.blocking, keys.REVIEWS) as wakeups:
        judge = Judge(base, f"judge-{id(wakeups)}", wakeups, load_boundaries(None))
        judge.start()
        try:
            yield judge
        finally:
            await judge.stop()


async def test_a_slow_judge_policy_of_one_tenant_keeps_no_place_from_another(
    base: Base, tenant: str, crowd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, held = asyncio.Event(), 0

    async def slow(submission: Any, *args: Any, **more: Any) -> Any:
        nonlocal held
        if submission.goal == "slow":
            held += 1
            await answered.wait()
        return await judging.evaluate(submission, *args, **more)

    monkeypatch.setattr(judges, "evaluate", slow)
    monkeypatch.setattr(judges, "is_quick", lambda _: False)
    await in_review(base, crowd, 500, "slow")
    async with a_judge(base):

        async def full() -> bool:
            return held >= AT_ONCE * 3 // 4

        await until(full)
        assert held == AT_ONCE * 3 // 4, "alone it has three quarters of the places"
        await in_review(base, tenant, 40)

        async def accepted() -> bool:
            return (await counts(base, tenant))["ACCEPTED"] == 40

        await until(accepted)
        assert (await counts(base, crowd))["ACCEPTED"] == 0
        answered.set()

        async def all_accepted() -> bool:
            return (await counts(base, crowd))["ACCEPTED"] == 500

        await until(all_accepted)


async def test_policies_that_hold_their_threads_leave_some_to_other_tenants(
    base: Base, tenant: str, crowd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, judge = threading.Event(), judging._judge

    def slow(spec: Any, submission: Any) -> Any:
        if submission.goal == "slow":
            answered.wait(20)
        return judge(spec, submission)

    monkeypatch.setattr(judging, "_judge", slow)
    monkeypatch.setattr(judges, "is_quick", lambda _: False)
    policy = [{"policy": "rules", "max_chars": 100}]
    for name, goal, tasks in ((crowd, "slow", 60), (tenant, "try", 40)):
        spec = drive.spec(goal=goal, inputs=list(range(tasks)), judge=policy)
        stores = await drive.begin(base, name, spec)
        for one in await drive.claim(stores, tasks, lease_s=60):
            await drive.hand_in(stores, one)
    async with a_judge(base):

        async def accepted() -> bool:
            return (await counts(base, tenant))["ACCEPTED"] == 40

        try:
            await until(accepted)
            assert (await counts(base, crowd))["ACCEPTED"] == 0
        finally:
            answered.set()


@asynccontextmanager
async def leading(base: Base, tenant: str, role: str) -> AsyncIterator[Elector]:
    elector = Elector(base.election(f"{role} of {tenant}"), "replica")
    elector.start()
    await elector.led()
    yield elector
    await elector.stop()


async def test_a_flood_of_requests_for_money_is_answered_a_batch_a_turn(
    base: Base, tenant: str, crowd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = json.dumps({"do": "find", "from": "w", "id": "1", "task": "m1.0", "round": "0", "call": "c"})
    await base.redis.rpush(base.of(crowd).tasks.keys.requests, *[asks] * (3 * BATCH))
    await base.redis.rpush(base.of(tenant).tasks.keys.requests, asks)
    async with leading(base, tenant, "governor") as elector, Wakeups(base.blocking, keys.MONEY) as wakeups:
        governor, turns = Governor(base, elector, wakeups), []
        answer = governor._answer

        async def counted(who: str, term: int) -> int:
            if done := await answer(who, term):
                turns.append((who, done))
            return done

        monkeypatch.setattr(governor, "_answer", counted)
        for _ in range(4):
            await governor.run_once()
            await governor.wait()
    assert turns[:2] == [(crowd, BATCH), (tenant, 1)]
    assert turns[2:] == [(crowd, BATCH)] * 2


async def test_a_tenant_with_many_missions_is_tended_some_at_a_time(
    base: Base, tenant: str, crowd: str
) -> None:
    for n in range(120):
        await drive.submit(base, crowd, drive.spec(inputs=[1]), f"m{n}")
    await drive.submit(base, tenant, drive.spec())
    async with (
        leading(base, tenant, "orchestrator") as elector,
        Wakeups(base.blocking, keys.MISSIONS) as wakeups,
    ):
        service = Orchestrator(base, elector, wakeups)
        await service.run_once()
        assert (await counts(base, tenant))["READY"] == 3
        missions = base.of(crowd).missions
        assert await missions.unfinished() == orchestrators.MISSIONS
        for _ in range(3):
            await service.wait()
            await service.run_once()
        assert await missions.unfinished() == 120


async def test_a_large_mission_is_planned_some_windows_a_turn(base: Base, tenant: str, crowd: str) -> None:
    await drive.submit(base, crowd, drive.spec(inputs=list(range(2_000))), "m1")
    await drive.submit(base, tenant, drive.spec())
    async with (
        leading(base, tenant, "orchestrator") as elector,
        Wakeups(base.blocking, keys.MISSIONS) as wakeups,
    ):
        service = Orchestrator(base, elector, wakeups)
        ready = []
        for _ in range(5):
            await service.run_once()
            ready.append((await counts(base, crowd))["READY"])
            assert (await counts(base, tenant))["READY"] == 3
            await service.wait()
        assert ready[0] == 500
        assert ready[-1] == 2_000


async def test_a_mission_that_is_new_does_not_wait_for_those_that_are_swept(
    base: Base, tenant: str, crowd: str
) -> None:
    for n in range(120):
        await drive.begin(base, crowd, drive.spec(inputs=[1]), f"m{n:03}")
    async with (
        leading(base, tenant, "orchestrator") as elector,
        Wakeups(base.blocking, keys.MISSIONS) as wakeups,
    ):
        service = Orchestrator(base, elector, wakeups)
        assert elector.term is not None
        await base.of(crowd).missions.dirty(200)
        assert await service.tend(crowd, term=drive.TERM, everything=True)
        await drive.submit(base, crowd, drive.spec(inputs=[1]), "z-new")
        assert await service.tend(crowd, term=drive.TERM, everything=False)
        assert (await base.of(crowd).missions.get("z-new")).planned_all


async def test_a_crash_loop_of_one_tenant_leaves_the_rescuer_to_others(
    base: Base, tenant: str, crowd: str
) -> None:
    for name, tasks in ((crowd, 500), (tenant, 1)):
        stores = await drive.begin(base, name, drive.spec(inputs=list(range(tasks))))
        assert len(await drive.claim(stores, tasks, lease_s=0.01)) == tasks
    rescuer = Rescuer(base, "replica")

    async def rescued() -> bool:
        await rescuer.run_once()
        await rescuer.wait()
        return (await counts(base, tenant))["READY"] == 1

    await until(rescued)
    assert (await counts(base, crowd))["READY"] <= 400, "two hundred a turn"


async def never(task: Task, ctx: Context) -> Any:
    """Never ends."""
    await asyncio.Event().wait()


async def always_wrong(task: Task, ctx: Context) -> Any:
    """Always raises."""
    raise RuntimeError("no")


@pytest.mark.parametrize("agent", [never, always_wrong], ids=["slow agent", "errors without end"])
async def test_what_one_tenants_agents_do_is_its_own(base: Base, tenant: str, crowd: str, agent: Any) -> None:
    async with running(base, tenant, registry(echo=echo, bad=agent)) as fleet:
        bad = drive.spec(agent="bad", inputs=list(range(60)), max_attempts=100)
        await drive.submit(base, crowd, bad, "m1")

        async def busy() -> bool:
            return bool((await counts(base, crowd))["PENDING"])

        await until(busy)
        await fleet.submit(drive.spec(inputs=list(range(40))))
        mission = await fleet.rest()
        assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 40)
