"""What the workers of an ended fleet held goes back to work, uncounted; nobody else's does."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from chimera.runtime.base import Base
from chimera.serving.local.handback import give_back
from chimera.serving.titles import CELL
from chimera.store.connection import connect_sync
from chimera.store.scripts import SyncScripts
from chimera.store.tasks import Heartbeat
from tests.redis_fixtures import base, redis_server, settings, tenant
from tests.store import drive

__all__ = ["base", "redis_server", "settings", "tenant"]


@pytest.fixture
def living() -> Iterator[int]:
    """The number of a process that calls itself the worker `alive`."""
    with subprocess.Popen(["bash", "-c", "read", "-m", CELL, "alive"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


async def test_only_what_dead_workers_of_this_host_held_is_given_back(
    base: Base, tenant: str, living: int, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2, 3]))
    sync = connect_sync(base.settings)

    async def holds(worker: str, pid: int) -> str:
        (claim,) = await drive.claim(stores, worker=worker)
        Heartbeat(SyncScripts(sync), tenant, worker, pid=pid).renew(
            [claim.lease], lease_s=60, slots=1, busy=1
        )
        return claim.task_id

    dead, alive = await holds("dead", gone), await holds("alive", living)
    monkeypatch.setattr("socket.gethostname", lambda: "another-host")
    elsewhere = await holds("elsewhere", gone)
    monkeypatch.undo()
    sync.close()

    assert await give_back(base.settings, "supervisor") == 1
    tasks = await stores.tasks.get_many([dead, alive, elsewhere])
    assert [task.status for task in tasks] == ["READY", "PENDING", "PENDING"]
    assert tasks[0].tallies == {}
    assert set(await stores.tasks.workers()) == {"alive", "elsewhere"}


async def test_what_a_worker_says_that_is_no_process_keeps_no_fleet_from_its_start(
    base: Base, tenant: str, living: int
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    sync = connect_sync(base.settings)
    (claim,) = await drive.claim(stores, worker="odd")
    Heartbeat(SyncScripts(sync), tenant, "odd", pid=living).renew([claim.lease], lease_s=60, slots=1, busy=1)
    sync.close()
    host, key = socket.gethostname(), stores.tasks.keys.of("worker", "odd")
    for said in (f"²@{host}", f"{'9' * 5000}@{host}", "", "@"):
        await base.redis.hset(key, "process", said)
        assert await give_back(base.settings, "supervisor") == 0
    await base.redis.hset(key, "process", f"{living}@{host}")
    assert await give_back(base.settings, "supervisor") == 1, "that is another's, so this one is dead"


async def test_a_store_that_is_away_leaves_it_to_the_leases(base: Base) -> None:
    away = base.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    assert await give_back(away, "supervisor") == 0
