"""The store goes away and comes back under a working fleet: nothing is lost, no worker is blamed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from chimera.agents.context import Context
from chimera.core.action import HttpAction
from chimera.core.event import Event
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.errors import StoreError
from chimera.runtime.base import Base, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from chimera.store.connection import connect
from tests import troubles
from tests.relay import Relay
from tests.runtime.couriers import allowing, delivering, until
from tests.runtime.fleet import Fleet, registry, running
from tests.runtime.receiver import receiving
from tests.store import drive

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.unmeasured,
    # The driver, cancelled between making what it would send and sending it.
    pytest.mark.filterwarnings("ignore:.*_send_packed_command:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .*_send_packed_command:RuntimeWarning"),
]

LIVE, WORKERS = 200, 4
OUTAGE_S = 10


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop; what it acknowledged is on disk."""
    with RedisServer(tmp_path / "redis", fsync="always", directives=troubles.DIRECTIVES) as server:
        yield server


@pytest.fixture
def settings(own_redis: RedisServer, tmp_path: Path) -> Settings:
    """Leases and heartbeats are the defaults."""
    return load(
        redis_url=own_redis.url,
        state_dir=tmp_path,
        slots=LIVE // WORKERS,
        max_workers=WORKERS,
        express_slots=0,
        idle_s=60,
    )


@pytest.fixture
async def base(settings: Settings) -> AsyncIterator[Base]:
    opened = await open_base(settings)
    await opened.tenants.add("acme")
    yield opened
    await opened.close()


async def recorded(fleet: Fleet) -> list[Event]:
    return [event async for _, event in fleet.stores.recorder.read()]


def has_no_gap(events: list[Event]) -> bool:
    return [event.seq for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_ten_seconds_without_a_store_re_run_none_of_200_live_leases_and_count_no_crash(
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
        assert len(await fleet.workers.list()) == WORKERS
        if how == "stopped":
            own_redis.pause()
            # The first to be heard afterwards, before any worker renews.
            rescue = asyncio.create_task(fleet.stores.tasks.rescue("test", lease_s=base.settings.lease_s))
        else:
            own_redis.kill()
        # Longer than three leases; nothing can tell of it, for the store is what would.
        await asyncio.sleep(OUTAGE_S)
        if how == "stopped":
            own_redis.resume()
        else:
            own_redis.start()  # holds up this loop, and so the fleet's own rescuer
            rescue = asyncio.create_task(fleet.stores.tasks.rescue("test", lease_s=base.settings.lease_s))
        with_luck = await asyncio.gather(rescue, return_exceptions=True)
        # The driver gave up its own call meanwhile; Redis executed it all the same.
        assert with_luck[0] == (0, 0, 0) or isinstance(with_luck[0], StoreError)
        await asyncio.sleep(base.settings.lease_s + 1)  # time enough to rescue what should not be rescued
        go_on.set()
        mission = await fleet.rest(timeout_s=40)
        events = await recorded(fleet)
    assert mission.status is MissionStatus.COMPLETED
    assert mission.counts["ACCEPTED"] == LIVE
    assert {name: n for name, n in mission.tallies.items() if n} == {}
    assert len(started) == len(set(started)) == LIVE
    assert "task.rescued" not in {event.kind for event in events}
    assert has_no_gap(events)


@pytest.mark.timeout(240)
async def test_no_acknowledged_mission_is_lost_by_a_store_that_is_killed_at_random(
    base: Base, own_redis: RedisServer
) -> None:
    chance = random.Random(7)

    async def brief(task: Task, ctx: Context) -> Any:
        await asyncio.sleep(random.random() * 0.2)
        return task.input

    async with running(base, "acme", registry(brief=brief)) as fleet:
        for life in range(3):
            acknowledged: list[str] = []

            async def submits(life: int = life, acknowledged: list[str] = acknowledged) -> None:
                for number in range(6):
                    mission_id = f"m{life}{number}"
                    while mission_id not in acknowledged:
                        try:
                            await fleet.submit(
                                drive.spec(agent="brief", inputs=list(range(50)), task_timeout_s=60),
                                mission_id,
                            )
                            acknowledged.append(mission_id)
                        except StoreError:
                            await asyncio.sleep(0.05)  # the same again, under the same id

            submitting = asyncio.create_task(submits())
            for _ in range(3):
                await asyncio.sleep(chance.random())
                own_redis.kill()
                await asyncio.sleep(chance.random() * 0.3)
                await asyncio.to_thread(own_redis.start)
            await submitting
            for mission_id in acknowledged:
                mission = await fleet.rest(mission_id, timeout_s=60)
                assert mission.status is MissionStatus.COMPLETED
                assert mission.counts["ACCEPTED"] == 50
        events = await recorded(fleet)
    assert has_no_gap(events)
    accepted = [event.task_id for event in events if event.kind == "task.accepted"]
    assert len(accepted) == len(set(accepted)) == 3 * 6 * 50
    assert not [event for event in events if event.kind == "task.rescued" and event.details["crash"]]


@pytest.mark.parametrize("code", [*troubles.AWAY, "NOSCRIPT"])
async def test_a_fleet_backs_off_from_a_store_that_cannot_serve_and_resumes(
    code: str, base: Base, own_redis: RedisServer
) -> None:
    paid: list[str] = []
    trouble = {**troubles.AWAY, "NOSCRIPT": troubles.flushed}[code]

    async def brief(task: Task, ctx: Context) -> Any:
        await asyncio.sleep(0.05)
        paid.append(task.task_id)
        return task.input

    async with running(base, "acme", registry(brief=brief)) as fleet:
        await fleet.submit(drive.spec(agent="brief", inputs=list(range(1_500)), task_timeout_s=60))
        await fleet.until(lambda mission: mission.counts["ACCEPTED"] >= 50)
        async with trouble(own_redis):
            await asyncio.sleep(base.settings.lease_s + 1)
        mission = await fleet.rest(timeout_s=60)
        events = await recorded(fleet)
    assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 1_500)
    assert mission.tallies == {}
    assert len(paid) == 1_500
    assert has_no_gap(events)


def far(settings: Settings, server: RedisServer, relay: Relay) -> Settings:
    """The same store, over a relay."""
    url = server.url.replace(f":{server.port}/", f":{relay.port}/")
    return settings.model_copy(update={"redis_url": SecretStr(url)})


async def test_broken_connections_only_slow_the_fleet(own_redis: RedisServer, settings: Settings) -> None:
    async def brief(task: Task, ctx: Context) -> Any:
        return task.input

    async with Relay(own_redis.port) as relay:
        base = await open_base(far(settings, own_redis, relay))
        await base.tenants.add("acme")
        near = connect(settings)
        async with running(base, "acme", registry(brief=brief)) as fleet:
            relay.delay_s = (0.02, 0.05)
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


@pytest.mark.timeout(180)
async def test_leases_of_living_workers_outlast_a_slow_store(
    own_redis: RedisServer, settings: Settings
) -> None:
    """50 to 500 ms each way, each time another: a round trip of up to a second."""
    started: list[str] = []

    async def long(task: Task, ctx: Context) -> Any:
        started.append(task.task_id)
        await asyncio.sleep(1.5 * settings.lease_s)
        return task.input

    async with Relay(own_redis.port) as relay:
        slow = far(settings, own_redis, relay).model_copy(update={"slots": 5})
        base = await open_base(slow)
        await base.tenants.add("acme")
        with capture_logs() as logs:
            async with running(base, "acme", registry(long=long)) as fleet:
                relay.delay_s = (0.05, 0.5)
                # Several missions: a worker learns about each of them over the slow wire.
                for number in range(3):
                    mission = drive.spec(agent="long", inputs=list(range(6)), task_timeout_s=60)
                    await fleet.submit(mission, f"m{number}")
                missions = [await fleet.rest(f"m{number}", timeout_s=120) for number in range(3)]
                relay.delay_s = (0.0, 0.0)
                events = await recorded(fleet)
        await base.close()
    assert {mission.status for mission in missions} == {MissionStatus.COMPLETED}
    assert [mission.tallies for mission in missions] == [{}] * 3, "no lease lapsed, nobody was taken for dead"
    assert len(started) == len(set(started)) == 18
    assert not [line for line in logs if line["event"] in {"worker.stalled", "lease.lost"}]
    accepted = [event.task_id for event in events if event.kind == "task.accepted"]
    assert len(accepted) == len(set(accepted)) == 18
    assert has_no_gap(events)


async def test_a_dead_workers_tasks_are_rescued_from_a_slow_store_too(
    own_redis: RedisServer, settings: Settings
) -> None:
    begun = asyncio.Event()

    async def first_hangs(task: Task, ctx: Context) -> Any:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return task.input

    async with Relay(own_redis.port) as relay:
        shape = {"fast_rescue": False, "slots": 1, "lease_s": 1.2, "heartbeat_s": 0.25}
        slow = far(settings, own_redis, relay).model_copy(update=shape)
        base = await open_base(slow)
        await base.tenants.add("acme")
        async with running(base, "acme", registry(first_hangs=first_hangs)) as fleet:
            relay.delay_s = (0.16, 0.2)
            await fleet.submit(drive.spec(agent="first_hangs", inputs=[1], task_timeout_s=60))
            await begun.wait()
            await fleet.workers.fall_silent(fleet.workers.started[0])
            mission = await fleet.rest(timeout_s=60)
        relay.delay_s = (0.0, 0.0)
        await base.close()
    assert mission.status is MissionStatus.COMPLETED
    # Its last heartbeat may have been one that did not name the task yet, and outlast its lease.
    assert mission.tallies in ({"crashes": 1}, {"lapses": 1})
