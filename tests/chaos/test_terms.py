"""Two leaders, governors or whole hubs at once: the older term is refused, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal

import pytest

from chimera.core.mission import MissionStatus
from chimera.serving.local.redis_server import RedisServer
from chimera.store.requests import written
from tests.chaos.agents import COST
from tests.chaos.world import Part, World, through, until
from tests.relay import Relay
from tests.store import drive

pytestmark = pytest.mark.chaos

SLOW_S = 0.1
"""Each answer to the older one takes so long: it can be met in the middle of its duty."""


async def leads(world: World, role: str, part: Part) -> None:
    """Wait until it leads."""

    async def holds() -> bool:
        return (await world.base.election(role).leader() or "").startswith(part.name)

    await until(holds, f"{part.name} leads as {role}")


async def test_a_leader_that_wakes_amid_its_duty_plans_no_more_and_follows(
    world: World, redis: RedisServer
) -> None:
    total = 4_000
    world.settings = world.settings.model_copy(update={"plan_window": 100_000})
    async with Relay(redis.port) as relay:
        old = await world.up("orchestrator", "old", redis_url=through(world.settings.redis_url, relay.port))
        await leads(world, "orchestrator", old)
        relay.delay_s = (SLOW_S, SLOW_S)
        await world.submit(drive.spec(inputs=list(range(total))))
        await world.mission(lambda one: one.planned > 0, "planning has begun")
        old.stop()
        assert (await world.stores.missions.get("m1")).planned < total
        new = await world.up("orchestrator", "new")
        await leads(world, "orchestrator", new)
        mission = await world.mission(lambda one: one.planned_all, "the other has planned it")
        relay.delay_s = (0.0, 0.0)
        old.wake()
        await asyncio.sleep(2 * world.settings.lease_s)  # it goes on looking, as a follower
        assert await world.base.election("orchestrator").leader() == "new"
        assert len(old.said("leader.elected")) == 1
    assert mission.counts["READY"] == total
    ids = await world.stores.missions.task_ids("m1", most=2 * total)
    assert len(ids) == len(set(ids)) == total
    by = [event.by for event in await world.events("mission.planned")]
    assert by == sorted(by, reverse=True), "the old one planned nothing after the new one"


async def test_a_governor_that_wakes_amid_its_duty_is_refused_and_follows(
    world: World, redis: RedisServer
) -> None:
    holds = 3_000
    requests = world.stores.requests
    await drive.begin(world.base, "acme", drive.spec(inputs=["x"]))
    (task,) = await drive.claim(world.stores, lease_s=300)

    def reserve(number: int) -> dict[str, object]:
        asked = {"task": task.task_id, "token": task.token, "amount": 1, "ttl_s": 300}
        return {"do": "reserve", "id": f"h{number}", "from": "test", **asked}

    async def held(amount: int) -> bool:
        return (await world.stores.ledger.balance()).held == amount

    async with Relay(redis.port) as relay:
        old = await world.up("governor", "old", redis_url=through(world.settings.redis_url, relay.port))
        await requests.send("test", "op1", [written(reserve(number)) for number in range(holds)])
        await until(lambda: held(holds), "all holds are granted")
        relay.delay_s = (SLOW_S, SLOW_S)
        settle = {"do": "settle", "cost": 1, "charge": "", "round": 0, "call": "", "reply": ""}
        await requests.send(
            "test", "op2", [written({"hold": f"h{number}", **settle}) for number in range(holds)]
        )

        async def begun() -> bool:
            return (await world.stores.ledger.balance()).held < holds

        await until(begun, "settling has begun")
        old.stop()
        assert (await world.stores.ledger.balance()).held > 0
        new = await world.up("governor", "new")
        await until(lambda: held(0), "the other has settled the rest")
        # The newer one looks away, and there is work: the older one goes on where it stood.
        new.stop()
        await requests.send("test", "op3", [written(reserve(holds))])
        relay.delay_s = (0.0, 0.0)
        old.wake()
        await old.says("governor.superseded")
        new.wake()
        await until(lambda: held(1), "the newer one grants what the older one might not")
    assert (await world.stores.ledger.balance()).settled["lifetime"] == holds
    settled = Counter(event.details["hold"] for event in await world.events("spend.settled"))
    assert len(settled) == holds
    assert set(settled.values()) == {1}


HUB_EVENTS = ("mission.planned", "mission.running", "mission.completed", "spend.held", "spend.settled")


async def test_of_two_hubs_under_load_the_older_one_does_nothing_more(
    world: World, redis: RedisServer
) -> None:
    tasks = 1_500
    world.settings = world.settings.model_copy(update={"plan_window": 200, "slots": 64})
    async with Relay(redis.port) as relay:
        old = await world.up("hub", "old", redis_url=through(world.settings.redis_url, relay.port))
        await leads(world, "orchestrator", old)
        await leads(world, "governor", old)
        new = world.begin("hub", "new")
        world.begin("worker", "w1")
        world.begin("worker", "w2")
        await world.submit(drive.spec(agent="pays", inputs=list(range(tasks)), budget_usd=Decimal(10)))
        await world.mission(lambda one: one.counts["ACCEPTED"] > tasks / 10, "it is well under way")
        old.stop()
        await leads(world, "orchestrator", new)
        await leads(world, "governor", new)
        old.wake()
        mission = await world.final()
    assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, tasks)
    # A task whose lease ran out on a busy machine ran, and paid, again: each hold is charged once even so.
    held = {event.details["hold"] for event in await world.events("spend.held")}
    charged = Counter(event.details["hold"] for event in await world.events("spend.settled"))
    assert charged == dict.fromkeys(held, 1)
    assert mission.settled_microusd == len(held) * COST >= tasks * COST
    assert mission.held_microusd == 0
    assert len(await world.stores.missions.task_ids("m1", most=2 * tasks)) == tasks
    await world.committed_once(tasks)
    by = [event.by for event in await world.events(*HUB_EVENTS)]
    assert set(by) == {"old", "new"}
    # On a machine that stalls for longer than a lead the older one may be elected again, under a new term.
    if len(old.said("leader.elected")) == 2:
        assert by == sorted(by, reverse=True), "the old hub did nothing after the new one"
