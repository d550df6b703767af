"""The store goes away and comes back under a working fleet: nothing is lost, no worker is blamed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from chimera.agents.context import Context
from chimera.core.action import HttpAction
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.runtime.base import Base, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from chimera.store.connection import connect
from tests.relay import Relay
from tests.runtime.couriers import allowing, delivering, until
from tests.runtime.fleet import registry, running
from tests.runtime.receiver import receiving
from tests.store import drive

pytestmark = pytest.mark.chaos

LIVE = 200


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop; what it acknowledged is on disk."""
    with RedisServer(tmp_path / "redis", fsync="always") as server:
        yield server


@pytest.fixture
def settings(own_redis: RedisServer, tmp_path: Path) -> Settings:
    return load(
        redis_url=own_redis.url,
        state_dir=tmp_path,
        lease_s=0.9,
        heartbeat_s=0.2,
        slots=LIVE,
        express_slots=0,
        idle_s=30,
    )


@pytest.fixture
async def base(settings: Settings) -> AsyncIterator[Base]:
    opened = await open_base(settings)
    await opened.tenants.add("acme")
    yield opened
    await opened.close()


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_an_outage_re_runs_nothing_and_counts_no_crash(
    how: str, base: Base, own_redis: RedisServer
) -> None:
    started: list[str] = []
    go_on = asyncio.Event()

    async def patient(task: Task, ctx: Context) -> Any:
        started.append(task.task_id)
        await go_on.wait()
        return "done"

    async with running(base, "acme", registry(patient=patient)) as fleet:
        await fleet.submit(drive.spec(agent="patient", inputs=list(range(LIVE)), task_timeout_s=60))
        await fleet.until(lambda mission: mission.counts["PENDING"] == LIVE)
        if how == "stopped":
            own_redis.pause()
            # The first to be heard afterwards, before any worker renews.
            rescue = asyncio.create_task(fleet.stores.tasks.rescue("test", lease_s=0.9))
        else:
            own_redis.kill()
        # Longer than three leases; nothing can tell of it, for the store is what would.
        await asyncio.sleep(3)
        if how == "stopped":
            own_redis.resume()
        else:
            own_redis.start()  # holds up this loop, and so the fleet's own rescuer
            rescue = asyncio.create_task(fleet.stores.tasks.rescue("test", lease_s=0.9))
        assert (await rescue)[0] == 0
        await asyncio.sleep(2)  # time enough to rescue what should not be rescued
        go_on.set()
        mission = await fleet.rest(timeout_s=40)
    assert mission.status is MissionStatus.COMPLETED
    assert mission.counts["ACCEPTED"] == LIVE
    assert {name: n for name, n in mission.tallies.items() if n} == {}
    assert len(started) == LIVE


async def test_a_fleet_works_through_a_store_that_dies_at_random(base: Base, own_redis: RedisServer) -> None:
    chance = random.Random(7)

    async def brief(task: Task, ctx: Context) -> Any:
        await asyncio.sleep(chance.random() * 0.2)
        return task.input

    async with running(base, "acme", registry(brief=brief)) as fleet:
        await fleet.submit(drive.spec(agent="brief", inputs=list(range(600)), task_timeout_s=60))
        for _ in range(4):
            await asyncio.sleep(0.2 + chance.random())
            own_redis.kill()
            await asyncio.sleep(chance.random() * 0.5)
            await asyncio.to_thread(own_redis.start)
        mission = await fleet.rest(timeout_s=60)
        tasks = await fleet.stores.missions.task_ids("m1", most=1_000)
        results = await fleet.stores.tasks.results(tasks)
        events = [event async for _, event in fleet.stores.recorder.read()]
    assert mission.status is MissionStatus.COMPLETED
    assert sorted(results.values()) == list(range(600))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    accepted = [event.task_id for event in events if event.kind == "task.accepted"]
    assert len(accepted) == len(set(accepted)) == 600


async def test_a_slow_store_and_broken_connections_only_slow_the_fleet(
    own_redis: RedisServer, settings: Settings
) -> None:
    async def brief(task: Task, ctx: Context) -> Any:
        return task.input

    async with Relay(own_redis.port) as relay:
        url = own_redis.url.replace(f":{own_redis.port}/", f":{relay.port}/")
        base = await open_base(settings.model_copy(update={"redis_url": SecretStr(url)}))
        await base.tenants.add("acme")
        near = connect(settings)
        async with running(base, "acme", registry(brief=brief)) as fleet:
            relay.delay_s = 0.05
            await fleet.submit(drive.spec(agent="brief", inputs=list(range(100)), task_timeout_s=60))
            for _ in range(3):
                await asyncio.sleep(0.3)
                await relay.drop()
                await near.script_flush()
            mission = await fleet.rest(timeout_s=60)
        await near.aclose()
        await base.close()
    assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 100)


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_an_outage_sends_no_action_twice(how: str, base: Base, own_redis: RedisServer) -> None:
    async with receiving() as receiver:
        ready = allowing(base, receiver, action_timeout_s=0.5)
        action = HttpAction(url=receiver.url)
        stores = await drive.accept_with(base, "acme", [action])
        # It is sent, and taken: but that cannot be told to the store.
        receiver.arriving = lambda _call: own_redis.pause() if how == "stopped" else own_redis.kill()
        async with delivering(ready, "c1", "c2"):
            await receiver.arrived(1)
            # Longer than two leases of a courier.
            await asyncio.sleep(3)
            receiver.arriving = lambda _call: None
            if how == "stopped":
                own_redis.resume()
            else:
                await asyncio.to_thread(own_redis.start)
            await until(stores, base, DONE=1)
            (record,) = await stores.actions.get_many(["m1.0/0"])
        assert (len(receiver.calls), record.lapses) == (1, 0)
