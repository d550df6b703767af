"""A leader killed amid a duty: another leads within seconds and goes on at the cut, whatever the duty was."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import count

import pytest

from chimera.core.mission import MissionStatus
from chimera.errors import BudgetExceeded
from chimera.serving.local.redis_server import RedisServer
from chimera.store.ledger import Reservation
from chimera.store.tasks import Ended
from tests.chaos.world import Part, World, through, until
from tests.relay import Relay
from tests.store import drive

pytestmark = pytest.mark.chaos

SLOW_S = 0.1
"""Each answer to a leader takes so long while it is watched for the right moment."""
BOUND_S = 5.0
"""A new leader leads within this: a lead lasts 3 s."""


class Succession:
    """Leaders, one after another; each is killed when the next one is there to follow."""

    def __init__(self, world: World, relay: Relay) -> None:
        self._world, self._relay = world, relay
        self._numbers = count()
        self._leader: Part | None = None
        self._next: Part | None = None
        self.took_s: list[float] = []

    async def first(self) -> None:
        """There is a leader."""
        self._leader = await self._up()
        await self._leader.says("leader.elected")

    async def killed(self, amid: Callable[[], Awaitable[bool]], what: str) -> None:
        """The leader is killed amid something, and another leads."""
        assert self._leader is not None
        assert self._next is not None
        await until(amid, what)
        died_at = self._leader.kill()
        assert await amid(), f"it was too late: {what}"
        self._relay.delay_s = (0.0, 0.0)
        self._leader = self._next
        led = await self._leader.says("leader.elected")
        self.took_s.append(led.time.timestamp() - died_at)

    async def follower(self) -> None:
        """Somebody to lead next, and answers that take their time from here on."""
        self._next = await self._up()
        self._relay.delay_s = (SLOW_S, SLOW_S)

    async def _up(self) -> Part:
        url = through(self._world.settings.redis_url, self._relay.port)
        return await self._world.up("planner-and-judge", f"leader{next(self._numbers)}", redis_url=url)


async def test_the_next_leader_goes_on_wherever_the_last_one_died(world: World, redis: RedisServer) -> None:
    world.settings = world.settings.model_copy(update={"plan_window": 10_000})
    async with Relay(redis.port) as relay:
        leaders = Succession(world, relay)
        await leaders.first()
        await half_swept(world, leaders)
        await half_revived(world, leaders)
        await half_passed_on(world, leaders)
        world.settings = world.settings.model_copy(update={"plan_window": 40})
        await half_planned(world, leaders)
    sys.stdout.write(f"another leads after the leader's death, s: {sorted(leaders.took_s)}\n")
    assert max(leaders.took_s) < 4 * BOUND_S


async def half_swept(world: World, leaders: Succession) -> None:
    """A tree of some 2,100 tasks is cancelled; the leader dies when some of them are."""
    plan = {"strategy": "map_reduce", "width": 20, "reduce": {"agent": "echo"}}
    await world.submit(drive.spec(inputs=list(range(2_000)), plan=plan), "swept")
    planned = await world.mission(lambda one: one.planned_all, "it is planned", "swept")
    total = planned.total_tasks
    await leaders.follower()
    await world.stores.missions.cancel("swept", by="eve", reason="enough")
    await leaders.killed(lambda: amid(world, "swept", "swept", total), "it is half swept")
    mission = await world.final("swept")
    assert mission.counts["CANCELLED"] == total == sum(mission.counts.values())
    cancelled = [e.task_id for e in await world.events("task.cancelled") if e.mission_id == "swept"]
    assert len(cancelled) == len(set(cancelled)) == total


async def half_revived(world: World, leaders: Succession) -> None:
    """A mission out of budget is resumed under a larger one; the leader dies when some tasks are back."""
    total = 3_000
    await world.submit(drive.spec(inputs=list(range(total)), budget_usd=Decimal("0.001")), "revived")
    await world.mission(lambda one: one.planned_all, "it is planned", "revived")
    (task,) = await drive.claim(world.stores, lease_s=300)
    asked = Reservation("h", task.task_id, task.token, 2_000, 60)
    (refused,) = await world.stores.ledger.reserve([asked], term=1, by="test")
    assert isinstance(refused, BudgetExceeded)
    assert (await world.final("revived")).reason == "budget_exceeded"
    await leaders.follower()
    await world.stores.missions.resume("revived", "op", by="eve", budget_microusd=1_000_000)
    await leaders.killed(lambda: amid(world, "revived", "revived", total), "it is half revived")

    async def back() -> bool:
        return not await world.base.redis.sismember(world.stores.missions.keys.revive, "revived")

    await until(back, "all its tasks are back")
    mission = await world.stores.missions.get("revived")
    assert (mission.status, mission.counts["READY"]) == (MissionStatus.RUNNING, total)
    assert await world.base.redis.llen(world.stores.missions.keys.of("ready", "revived")) == total
    await world.stores.missions.cancel("revived", by="eve", reason="seen enough")
    await world.final("revived")


async def half_passed_on(world: World, leaders: Succession) -> None:
    """The root of a tree fails; the leader dies when some of its branches have been told."""
    branches = 900
    nodes = [
        {"name": "root", "input": 0},
        *({"name": f"b{number}", "depends_on": ["root"]} for number in range(branches)),
    ]
    plan = {"strategy": "dag", "nodes": nodes}
    await world.submit(drive.spec(inputs=[], plan=plan, max_attempts=1), "tree")
    await world.mission(lambda one: one.planned_all, "it is planned", "tree")
    (root,) = await drive.claim(world.stores, lease_s=300)
    await leaders.follower()
    await world.stores.tasks.end("w1", [Ended(root.task_id, root.token, "error", "no")])

    async def some_told() -> bool:
        return 0 < int(await world.base.redis.llen(world.stores.missions.keys.fallen)) < branches

    await leaders.killed(some_told, "some branches are told")
    mission = await world.final("tree")
    assert (mission.status, mission.reason) == (MissionStatus.FAILED, "min_accepted")
    assert (mission.counts["FAILED"], mission.counts["CANCELLED"]) == (1, branches)
    assert await world.base.redis.llen(world.stores.missions.keys.fallen) == 0


async def half_planned(world: World, leaders: Succession) -> None:
    """A mission is planned in small windows as its tasks are done; the leader dies between two of them."""
    total = 600
    await leaders.follower()
    await world.up("worker")
    await world.submit(drive.spec(inputs=list(range(total))), "planned")

    async def some_planned() -> bool:
        return 100 < (await world.stores.missions.get("planned")).planned < total

    await leaders.killed(some_planned, "it is half planned")
    mission = await world.final("planned")
    assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, total)
    ids = await world.stores.missions.task_ids("planned", most=2 * total)
    assert len(ids) == len(set(ids)) == total
    assert sorted((await world.stores.tasks.results(ids)).values()) == list(range(total))
    await world.committed_once(total)


async def amid(world: World, mission_id: str, field: str, total: int) -> bool:
    """Whether a mission's cursor stands between its ends."""
    at = await world.base.redis.hget(world.stores.missions.keys.of("mission", mission_id), field)
    return 0 < int(at or 0) < total
