"""What Redis answers when it cannot serve becomes the error that says so, and passes with its cause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chimera.core.lease import Claim
from chimera.errors import ChimeraError, CorruptRecord, QueueFull, StoreError, StoreUnavailable
from chimera.runtime.base import Base, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from chimera.store.connection import translated
from chimera.store.signals import Bell
from chimera.store.tasks import Ended
from tests import troubles
from tests.relay import Relay
from tests.store import drive


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that these tests may hurt."""
    with RedisServer(tmp_path_factory.mktemp("hurt"), fsync="no", directives=troubles.DIRECTIVES) as server:
        yield server


@pytest.fixture
async def base(hurt: RedisServer, tmp_path: Path, tenant: str) -> AsyncIterator[Base]:
    opened = await open_base(load(redis_url=hurt.url, state_dir=tmp_path))
    await opened.tenants.add(tenant)
    yield opened
    await opened.close()


@pytest.mark.parametrize("code", troubles.AWAY)
async def test_a_redis_that_cannot_write_now_is_unavailable_and_comes_back(
    code: str, base: Base, hurt: RedisServer, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    async with troubles.AWAY[code](hurt):
        with pytest.raises(StoreUnavailable, match=r"cannot be used now: .+\("):
            await drive.claim(stores, 1, claim_id="c1")
    (claimed,) = await drive.claim(stores, 1, claim_id="c1")
    assert await drive.hand_in(stores, claimed) is None


async def test_a_redis_that_loads_its_data_is_unavailable_until_it_has(tmp_path: Path) -> None:
    slow = {"key-load-delay": "300"}  # µs for each command of its file
    with RedisServer(tmp_path / "redis", fsync="no", directives=slow) as server:
        base = await open_base(load(redis_url=server.url, state_dir=tmp_path))
        async with base.redis.pipeline(transaction=False) as pipe:
            for number in range(5_000):
                pipe.set(f"key:{number}", "x")
            await pipe.execute()
        server.kill()
        server.spawn()
        heard: list[str] = []
        async with asyncio.timeout(20):
            while True:
                try:
                    await base.tenants.names()
                    break
                except StoreUnavailable as exc:
                    heard.append(str(exc))
                await asyncio.sleep(0.02)  # the server is another process
        await base.close()
    assert any("still loading its data" in said for said in heard)


async def test_a_cluster_that_is_down_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", fsync="no", directives=troubles.cluster()) as server:
        settings = load(redis_url=server.url, state_dir=tmp_path)
        with pytest.raises(StoreUnavailable, match="its cluster is down"):
            await open_base(settings)
        await troubles.serve_all_slots(server)
        base = await open_base(settings)
        await base.tenants.add("acme")
        assert await base.tenants.names() == ["acme"]
        await base.close()


async def test_a_full_store_is_named_so(base: Base, hurt: RedisServer, tenant: str) -> None:
    await base.room.taken()
    async with troubles.full(hurt):
        with pytest.raises(QueueFull, match="takes no new work"):
            await drive.submit(base, tenant, drive.spec())


async def test_what_a_script_cannot_read_is_a_corrupt_record(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (one,) = await drive.claim(stores, 1)
    await base.redis.hset(stores.tasks.keys.of("task", one.task_id), "used", "no figure")
    with pytest.raises(CorruptRecord, match="user_script"):
        await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error")])
    await base.redis.set(stores.tasks.keys.leases, "no sorted set")
    with pytest.raises(CorruptRecord, match="WRONGTYPE"):
        await stores.tasks.release("w1", "hub")


async def test_what_one_command_of_a_pipeline_cannot_read_is_a_corrupt_record(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    await base.redis.set(stores.missions.keys.of("spend", "m1"), "no hash")
    with pytest.raises(CorruptRecord, match="WRONGTYPE"):
        await stores.missions.get("m1")


async def test_a_user_that_may_not_is_no_outage(base: Base, hurt: RedisServer, tenant: str) -> None:
    await base.redis.acl_setuser(
        "reader", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@read"]
    )
    async with troubles.client(hurt) as redis:
        await redis.execute_command("AUTH", "reader", "secret")
        with pytest.raises(StoreError, match="forbids its user") as raised, translated():
            await redis.set("a", "b")
    assert not isinstance(raised.value, StoreUnavailable)


async def test_scripts_run_while_their_cache_is_flushed_all_the_time(
    base: Base, hurt: RedisServer, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(200))))
    async with troubles.flushed(hurt):
        for _ in range(20):
            await drive.finish(stores, 10)
    assert (await stores.missions.get("m1")).counts["ACCEPTED"] == 200


async def test_clients_of_a_demoted_primary_find_the_new_one_behind_its_name(
    tmp_path: Path, tenant: str
) -> None:
    """As a managed Redis fails over: the old primary lives on as a replica, the name leads elsewhere."""
    old = RedisServer(tmp_path / "old", fsync="no")
    with old, RedisServer(tmp_path / "new", fsync="no", password=old.password) as new:
        async with troubles.client(new) as follower, troubles.client(old) as leader, Relay(old.port) as name:
            url = f"redis://:{old.password}@127.0.0.1:{name.port}/0"
            base = await open_base(load(redis_url=url, state_dir=tmp_path))
            waiting = asyncio.ensure_future(Bell(base.blocking, tenant).wait(20))
            stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
            await follower.config_set("masterauth", old.password)
            await follower.replicaof("127.0.0.1", old.port)
            while (await follower.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)  # two other processes talk
            await leader.wait(1, 5_000)
            # The failover: those who are connected stay with the old one.
            await follower.replicaof("NO", "ONE")
            name.target = new.port
            await leader.config_set("masterauth", old.password)
            await leader.replicaof("127.0.0.1", new.port)
            with pytest.raises(StoreUnavailable):
                await waiting
            failures: list[ChimeraError] = []
            claims: list[Claim] = []
            while not claims:
                try:
                    claims = await drive.claim(stores, 1, claim_id="c1")
                except StoreUnavailable as exc:
                    failures.append(exc)
            assert await drive.hand_in(stores, claims[0]) is None
            # One for each connection that was kept, and no more.
            assert 1 <= len(failures) <= 4
            assert "it is a replica" in str(failures[0])
            assert await follower.llen(stores.tasks.keys.review) == 1
            await base.close()
