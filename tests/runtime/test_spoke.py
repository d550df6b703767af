"""A spoke beside a hub, in one event loop: real services over a real Redis, each with its own login."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from chimera.agents.context import Context
from chimera.agents.registry import Registry
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.core.waiting import Cause, why
from chimera.errors import ConfigurationError
from chimera.runtime.base import Base
from chimera.runtime.spoke import SpokeController, SpokeElector, open_spoke, tenant_of
from chimera.settings import Settings, load
from chimera.store import keys
from chimera.store.recorder import Recorder
from chimera.store.signals import Wakeups
from chimera.store.spokes import SwarmElection
from chimera.store.users import UserStore, as_role, user_of
from tests.runtime.fleet import Workers, registry, running
from tests.runtime.test_fleet import echo, spend
from tests.store import drive


async def ask(base: Base, tenant: str, spoke: bool = True) -> None:
    await base.tenants.set_quota(tenant, {"spoke": spoke}, uuid.uuid4().hex, by="t")


def own(base: Base, tenant: str) -> Settings:
    """What a spoke's environment says: the URL that is printed for it, and no other secret."""
    url = as_role(base.settings, "spoke", tenant).redis_url
    assert url is not None
    return load(
        redis_url=url.get_secret_value(),
        spoke_tenant=tenant,
        state_dir=base.settings.state_dir,
        **{
            name: getattr(base.settings, name)
            for name in ("lease_s", "heartbeat_s", "idle_s", "reserve_wait_s")
        },
    )


@dataclass
class Spoke:
    """Handles on its parts."""

    base: Base
    elector: SpokeElector
    controller: SpokeController
    workers: Workers
    started: list[str] = field(default_factory=list)

    async def die(self) -> None:
        """As SIGKILL would have it: nothing is given up, and its workers go on."""
        self.elector.election.resign = _nothing  # type: ignore[method-assign,assignment]  # (what a dead one says)
        await self.controller.stop()
        await self.elector.stop()


async def _nothing(_: str) -> None:
    pass


@asynccontextmanager
async def spoke(base: Base, tenant: str, agents: Registry, name: str = "s1") -> AsyncIterator[Spoke]:
    """A spoke, until the block ends; so do its workers, which are tasks of this loop."""
    settings = own(base, tenant)
    opened = await open_spoke(settings, tenant_of(settings))
    workers = Workers(settings, agents)
    elector = SpokeElector(SwarmElection(opened.redis, tenant, name), tenant, name)
    try:
        async with Wakeups(opened.blocking, keys.LOAD, tenant) as wakeups:
            controller = SpokeController(opened, elector, workers, wakeups, tenant)
            elector.start()
            controller.start()
            yield Spoke(opened, elector, controller, workers)
            await controller.stop()
            await elector.stop()
    finally:
        await workers.close()
        await opened.close()


async def told(base: Base, tenant: str, holds: Callable[[], Any], timeout_s: float = 20) -> None:
    """Wait until it holds: it is looked at with every event of the recorder, and once a second."""
    stores = base.of(tenant)
    recorder = Recorder(base.blocking, tenant, stores.archive)
    async with asyncio.timeout(timeout_s):
        while True:
            seen = await stores.recorder.last()
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await recorder.wait(after=seen, timeout_s=1)


async def beating(base: Base, tenant: str) -> set[str]:
    return set(await base.of(tenant).tasks.workers())


async def reason(base: Base, tenant: str, task_id: str) -> Any:
    record = await base.tenants.record(tenant)
    return why(
        await base.of(tenant).waiting.standing(
            task_id, quota=record.quota, places=base.settings.max_workers, window=100, tenants=[]
        )
    )


class Held:
    """An agent whose attempts last until they are let go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.let = asyncio.Event()

    async def __call__(self, task: Task, ctx: Context) -> Any:
        self.began.set()
        await self.let.wait()
        return task.input


def holding() -> tuple[Held, Registry]:
    held = Held()

    async def hold(task: Task, ctx: Context) -> Any:
        return await held(task, ctx)

    return held, registry(hold=hold)


async def test_a_paid_mission_is_worked_by_its_spokes_workers_alone_which_leave_when_idle(
    base: Base, tenant: str
) -> None:
    """The governor is reached through Redis, with the tenant's worker's login that the spoke derived."""
    await ask(base, tenant)
    agents = registry(spend=spend, echo=echo)
    async with running(base, tenant, agents) as fleet, spoke(base, tenant, agents) as there:
        await fleet.submit(drive.spec(agent="spend", inputs=list(range(4)), budget_usd=Decimal("0.01")))
        mission = await fleet.rest()
        assert (mission.status, mission.settled_microusd) == (MissionStatus.COMPLETED, 1_200)
        assert fleet.workers.started == []
        assert there.workers.started
        await told(base, tenant, lambda: all(task.done() for _, task in there.workers.running.values()))
        assert await base.redis.get(fleet.stores.tasks.keys.wanted) == "0"


async def test_a_neighbour_stays_with_the_hub(base: Base, tenant: str) -> None:
    await ask(base, tenant)
    neighbour = f"{tenant}-n"
    await base.tenants.add(neighbour)
    try:
        agents = registry(echo=echo)
        async with running(base, neighbour, agents) as fleet, spoke(base, tenant, agents) as there:
            await fleet.submit(drive.spec(inputs=list(range(4))))
            assert (await fleet.rest()).status is MissionStatus.COMPLETED
            assert there.workers.started == []
            assert fleet.workers.started
    finally:
        await base.tenants.remove(neighbour)


async def test_work_moves_to_the_spoke_and_back_as_the_operator_says_and_loses_no_attempt(
    base: Base, tenant: str
) -> None:
    held, agents = holding()
    async with running(base, tenant, agents) as fleet, spoke(base, tenant, agents) as there:
        await fleet.submit(drive.spec(agent="hold", inputs=[1]))
        await told(base, tenant, held.began.is_set)
        (hubs,) = await beating(base, tenant)
        held.began.clear()
        await ask(base, tenant)
        await told(base, tenant, held.began.is_set, 30)  # handed back, and taken by another
        (spokes,) = await beating(base, tenant) - {hubs}
        assert (hubs in fleet.workers.started, spokes in there.workers.started) == (True, True)
        held.began.clear()
        await ask(base, tenant, spoke=False)
        await told(base, tenant, held.began.is_set, 30)
        assert len(fleet.workers.started) > 1
        held.let.set()
        mission = await fleet.rest()
        assert (mission.counts["ACCEPTED"], mission.tallies) == (1, dict.fromkeys(mission.tallies, 0))


async def test_a_worker_that_does_not_hear_is_ended_when_its_tenant_goes_back_to_the_hub(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold a pod, and so a share of the namespace's quota, for ever."""
    monkeypatch.setattr("chimera.runtime.spoke.STARTING_S", 0.0)
    monkeypatch.setenv("CHIMERA_PREEMPT_S", "0.2")
    await ask(base, tenant)
    agents = registry(echo=echo)
    async with running(base, tenant, agents) as fleet, spoke(base, tenant, agents) as there:
        monkeypatch.setattr(there.workers, "_run", _deaf)
        await fleet.submit(drive.spec(inputs=[1]))
        await told(base, tenant, lambda: there.workers.started)
        await ask(base, tenant, spoke=False)
        assert (await fleet.rest()).status is MissionStatus.COMPLETED
        await told(base, tenant, lambda: all(task.done() for _, task in there.workers.running.values()))
        assert await there.workers.list() == {}


async def _deaf(tenant: str, worker_id: str) -> str:
    """A worker whose pod never comes, or that hangs as it starts."""
    await asyncio.Event().wait()
    return ""


async def test_a_spoke_that_dies_is_followed_by_one_elsewhere_which_sends_its_workers_away(
    base: Base, tenant: str
) -> None:
    await ask(base, tenant)
    held, agents = holding()
    async with running(base, tenant, agents) as fleet, spoke(base, tenant, agents, "s1") as first:
        await told(base, tenant, lambda: first.elector.term)
        async with spoke(base, tenant, agents, "s2") as second:
            await fleet.submit(drive.spec(agent="hold", inputs=[1]))
            await told(base, tenant, held.began.is_set)
            assert (second.elector.term, second.workers.started) == (None, [])
            held.began.clear()
            await first.die()
            await told(base, tenant, lambda: held.began.is_set() and second.workers.started, 30)
            assert second.elector.term == 2
            held.let.set()
            mission = await fleet.rest()
            assert (mission.counts["ACCEPTED"], mission.tallies) == (1, dict.fromkeys(mission.tallies, 0))
            assert [task.done() for _, task in first.workers.running.values()] == [True]


async def test_work_of_a_tenant_whose_spoke_is_away_waits_and_says_so(base: Base, tenant: str) -> None:
    await ask(base, tenant)
    agents = registry(echo=echo)
    async with running(base, tenant, agents) as fleet:
        await fleet.submit(drive.spec(inputs=[1]))
        await told(base, tenant, lambda: reason_is(base, tenant, Cause.SPOKE))
        found = await reason(base, tenant, "m1.0")
        assert f"leaves the workers of {tenant} to it, and no worker is up" in found.detail
        assert f"`chimera tenant set {tenant} --no-spoke`" in found.next_step
        assert (found.figures["spoke"], found.position) == ("away", 1)
        assert fleet.workers.started == []
        async with spoke(base, tenant, agents):
            assert (await fleet.rest()).status is MissionStatus.COMPLETED


async def reason_is(base: Base, tenant: str, cause: Cause) -> bool:
    return (await reason(base, tenant, "m1.0")).cause is cause


async def test_a_worker_that_is_gone_has_its_work_given_back_long_before_its_lease_ends(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = replace(base, settings=base.settings.model_copy(update={"lease_s": 60.0}), _stores={})
    await ask(base, tenant)
    held, agents = holding()
    async with running(base, tenant, agents) as fleet, spoke(base, tenant, agents) as there:
        await fleet.submit(drive.spec(agent="hold", inputs=[1]))
        await told(base, tenant, held.began.is_set)
        held.began.clear()
        (worker,) = there.workers.started
        await told(base, tenant, lambda: worker in there.controller._mine)  # seen since it was started
        # It dies: it says nothing any more.
        monkeypatch.setattr(there.workers.workers[worker]._tasks, "leave", _gone)
        await there.workers.end(tenant, worker)
        await told(base, tenant, held.began.is_set, 30)
        held.let.set()
        assert (await fleet.rest()).tallies["crashes"] == 1
        ended = [
            event
            async for event in fleet.stores.recorder.read()
            if event[1].kind == "worker.ended" and event[1].details["reason"] == "died"
        ]
        assert [event.by for _, event in ended] == ["s1"]


async def _gone(*_: object) -> None:
    pass


async def test_a_spoke_that_is_told_to_end_has_its_workers_hand_back_and_gives_up_its_lead(
    base: Base, tenant: str
) -> None:
    await ask(base, tenant)
    held, agents = holding()
    async with running(base, tenant, agents) as fleet, spoke(base, tenant, agents) as there:
        await fleet.submit(drive.spec(agent="hold", inputs=[1]))
        await told(base, tenant, held.began.is_set)
        await there.controller.leave(1.0)
        assert await beating(base, tenant) == set()
        assert there.elector.term is not None, "nobody else starts any meanwhile"
        await there.elector.stop()
        assert await SwarmElection(base.redis, tenant).leader() is None
        mission = await fleet.until(lambda one: one.counts["READY"] == 1)
        assert mission.tallies == dict.fromkeys(mission.tallies, 0), "handed back, and not counted"


async def test_a_worker_that_does_not_leave_in_time_is_ended_and_what_it_held_is_not_suspected(
    base: Base, tenant: str
) -> None:
    await ask(base, tenant)
    held, agents = holding()
    async with running(base, tenant, agents) as fleet, spoke(base, tenant, agents) as there:
        await fleet.submit(drive.spec(agent="hold", inputs=[1], priority="high"))
        await told(base, tenant, held.began.is_set)
        await there.controller.leave(0.0)
        assert await there.workers.list() == {}
        mission = await fleet.until(lambda one: one.counts["READY"] == 1)
        assert mission.tallies == dict.fromkeys(mission.tallies, 0)


async def test_a_spoke_without_a_lead_leaves_the_workers_alone(base: Base, tenant: str) -> None:
    await ask(base, tenant)
    held, agents = holding()
    async with running(base, tenant, agents) as fleet, spoke(base, tenant, agents) as first:
        await fleet.submit(drive.spec(agent="hold", inputs=[1]))
        await told(base, tenant, held.began.is_set)
        async with spoke(base, tenant, agents, "s2") as second:
            second.workers.running = first.workers.running  # both on one cluster
            await second.controller.leave(5.0)
            assert await beating(base, tenant) == set(first.workers.started)
            second.workers.running = {}
        held.let.set()
        await fleet.rest()


async def test_a_spoke_waits_for_its_login_says_so_and_goes_on(base: Base, tenant: str) -> None:
    settings = own(base, tenant)
    await base.redis.execute_command("ACL", "DELUSER", user_of("spoke", tenant))
    with capture_logs() as logs:
        opening = asyncio.create_task(open_spoke(settings, tenant))
        async with asyncio.timeout(20):
            while not logs:  # noqa: ASYNC110 (its log is all that tells)
                await asyncio.sleep(0.01)
        assert not opening.done()
        await UserStore(base.redis, base.settings).reconcile(await base.tenants.names())
        async with asyncio.timeout(20):
            opened = await opening
    await opened.close()
    assert logs[0]["event"] == "spoke.waiting"
    assert "refuses the login" in logs[0]["error"]
    assert f"`chimera tenant login {tenant}`" in logs[0]["message"]


async def test_a_spoke_that_nobody_asked_for_waits_and_says_so(base: Base, tenant: str) -> None:
    with capture_logs() as logs:
        async with spoke(base, tenant, registry(echo=echo)) as there:
            await told(base, tenant, lambda: there.elector.swarm.refused)
            assert there.elector.term is None
            await ask(base, tenant)
            await told(base, tenant, lambda: there.elector.term)
    (said,) = [line for line in logs if line["event"] == "spoke.unasked"]
    assert f"`chimera tenant set {tenant} --spoke`" in said["message"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "set CHIMERA_SPOKE_TENANT"),
        ({"spoke_tenant": "acme"}, "CHIMERA_REDIS_URL_FILE.*`chimera tenant login acme`"),
        (
            {"spoke_tenant": "acme", "redis_url": "redis://:admin@h/0"},
            "logs in to Redis as chimera.spoke.acme, and .* says no user.*`chimera tenant login acme`",
        ),
        (
            {"spoke_tenant": "acme", "redis_url": "redis://chimera.spoke.other:x@h/0"},
            "says chimera.spoke.other: ",
        ),
        ({"spoke_tenant": "acme", "redis_url": "redis://chimera.spoke.acme@h/0"}, "no password"),
    ],
)
def test_an_environment_that_makes_no_spoke_is_refused_with_what_mends_it(
    environment: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        tenant_of(load(**environment))
