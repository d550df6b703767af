"""Draining by hand: what is named finishes or hands back, and leaves; a strange name drains nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from chimera.runtime.base import Base
from chimera.runtime.spare import bound
from chimera.store.connection import connect_sync
from chimera.store.scripts import SyncScripts
from chimera.store.spares import SpareStore
from chimera.store.tasks import Heartbeat
from tests.cli.conftest import Shell
from tests.runtime.fleet import Fleet
from tests.store import drive


@pytest.fixture
def operator(shell: Shell, base: Base) -> Shell:
    """A shell that is given the fleet's Redis."""
    assert base.settings.redis_url is not None
    url = base.settings.redis_url.get_secret_value()
    return Shell(shell.directory, {**shell.environment, "CHIMERA_REDIS_URL": url})


async def busy_worker(fleet: Fleet) -> str:
    """The worker that has a task which never ends."""
    await fleet.submit(drive.spec(agent="wait", inputs=["x"], task_timeout_s=300))
    await fleet.until(lambda mission: mission.counts["PENDING"] == 1)
    (task,) = await fleet.stores.tasks.get_many(["m1.0"])
    return task.worker


@pytest.mark.parametrize("by_node", [False, True])
async def test_a_drained_worker_hands_back_and_another_takes_over(
    operator: Shell, fleet: Fleet, by_node: bool
) -> None:
    worker = await busy_worker(fleet)
    shown = (await operator("fleet", "workers", "-o", "json")).document
    (mine,) = [one for one in shown if one["worker"] == worker]
    assert (mine["tenant"], mine["host"]) == (fleet.tenant, socket.gethostname())
    name = socket.gethostname() if by_node else worker
    done = await operator("fleet", "drain", name, "--within", "0.1", "--wait", "20", "-o", "json")
    assert done.code == 0, done.err
    assert worker in {one["worker"] for one in done.document["drained"]}
    assert done.document["still_there"] == []
    assert worker not in await fleet.stores.tasks.workers()
    mission = await fleet.until(lambda mission: mission.counts["PENDING"] == 1)
    assert mission.tallies == {}
    kinds = await drive.kinds(fleet.stores, "task.")
    assert kinds.count("task.returned") == 1
    assert "task.rescued" not in kinds


@pytest.fixture
def neighbours(base: Base, tenant: str) -> Iterator[dict[str, str]]:
    """Workers that beat once, all on this host: the node of each."""
    nodes = {"w-1": "abcd12" + 50 * "0", "w-2": "abcd12" + 50 * "0", "w-3": "abcd34" + 50 * "0", "w-4": ""}
    with connect_sync(base.settings) as connection:
        for worker, node in nodes.items():
            heartbeat = Heartbeat(SyncScripts(connection), tenant, worker, pid=7, node=node)
            heartbeat.renew([], lease_s=60, slots=16, busy=0)
        yield nodes
        connection.zrem(heartbeat._keys.workers, *nodes)


async def test_nodes_on_one_host_are_shown_and_drained_by_their_ids(
    operator: Shell, tenant: str, base: Base, neighbours: dict[str, str]
) -> None:
    await base.tenants.add(tenant)
    shown = (await operator("fleet", "workers", "-o", "json")).document
    mine = {one["worker"]: one["node"] for one in shown if one["tenant"] == tenant}
    assert mine == neighbours
    assert "abcd12000000 " in (await operator("fleet", "workers")).out
    done = await operator("fleet", "drain", "abcd12", "--wait", "0", "-o", "json")
    assert sorted(one["worker"] for one in done.document["drained"]) == ["w-1", "w-2"]
    said = await base.of(tenant).tasks.workers()
    assert {worker for worker in said if said[worker].get("drain")} == {"w-1", "w-2"}


@pytest.mark.parametrize("name", ["abcd", "abc", ""])
async def test_a_name_that_begins_several_nodes_ids_or_none_drains_nobody(
    name: str, operator: Shell, tenant: str, base: Base, neighbours: dict[str, str]
) -> None:
    await base.tenants.add(tenant)
    done = await operator("fleet", "drain", "w-1", name, "--wait", "0")
    assert done.code == 2
    assert all(node in done.err for node in neighbours.values()) == (len(name) > 3)
    said = await base.of(tenant).tasks.workers()
    assert not any(said[worker].get("drain") for worker in said)


async def test_what_has_not_left_in_time_is_named(operator: Shell, fleet: Fleet) -> None:
    worker = await busy_worker(fleet)
    done = await operator("fleet", "drain", worker, "--wait", "0.3")
    assert (done.code, done.out.strip()) == (1, f"{worker}: still there")


async def test_a_name_that_is_nobodys_drains_nobody(operator: Shell, fleet: Fleet) -> None:
    worker = await busy_worker(fleet)
    done = await operator("fleet", "drain", worker, "stranger")
    assert done.code == 2
    assert "'stranger'" in done.err
    assert (await fleet.stores.tasks.workers())[worker].get("drain") is None
    for words in ((), (worker, "--all")):
        assert (await operator("fleet", "drain", *words)).code == 2


async def test_a_drained_fleet_sends_its_waiting_spares_away_and_keeps_bound_ones(
    operator: Shell, base: Base, tenant: str
) -> None:
    spares = SpareStore(base.redis)
    waits, serves = f"spare-{tenant}-1", f"spare-{tenant}-2"
    with capture_logs():  # the spare lives in this process, and the command prints here
        waiting = asyncio.create_task(bound(base.redis, base.blocking, waits))
        assert await spares.join(serves) == ""
        assert await spares.bind(serves, tenant) == tenant
        while waits not in await spares.all():  # noqa: ASYNC110 (the store tells nobody)
            await asyncio.sleep(0.01)
        done = await operator("fleet", "drain", "--all", "--wait", "0", "-o", "json")
    assert [one["worker"] for one in done.document["drained"] if one["worker"].startswith("spare")] == [waits]
    assert await asyncio.wait_for(waiting, 10) is None
    assert await spares.bind(waits, tenant) != tenant, "it is nobody's any more"
    assert await spares.bind(serves, "other") == tenant, "a spare is one tenant's for good"
    await spares.forget([waits, serves])
