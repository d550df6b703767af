"""The desk: what is said to the governor stands before who said it goes on; one's trouble is one's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from chimera.agents.purse import Charge
from chimera.errors import StoreUnavailable
from chimera.runtime import desk as desks
from chimera.runtime.base import Base, base_of
from chimera.runtime.desk import Desk
from chimera.serving.local.redis_server import RedisServer
from tests.relay import Relay
from tests.runtime.fleet import governing
from tests.store import drive

CHARGE = Charge("m", 1, 1, 30, "test")


@asynccontextmanager
async def desk_of(base: Base, tenant: str, asker: str = "w1") -> AsyncIterator[Desk]:
    """A worker's desk."""
    desk = Desk(base.redis, base.blocking, tenant, asker, wait_s=0.2)
    desk.start()
    try:
        yield desk
    finally:
        await desk.stop()


@pytest.fixture
async def relay(redis_server: RedisServer) -> AsyncIterator[Relay]:
    async with Relay(redis_server.port) as made:
        yield made


@pytest.fixture
async def far(base: Base, redis_server: RedisServer, relay: Relay) -> AsyncIterator[Base]:
    """The same store, behind the relay."""
    url = f"redis://:{redis_server.password}@127.0.0.1:{relay.port}/0"
    made = base_of(base.settings.model_copy(update={"redis_url": SecretStr(url)}))
    yield made
    await made.close()


async def test_a_settlement_stands_before_its_callers_cancellation_goes_on(
    base: Base, far: Base, tenant: str, relay: Relay
) -> None:
    requests = base.of(tenant).ledger.keys.requests
    async with desk_of(far, tenant) as desk:
        assert not await desk.sent("none")  # connected
        relay.open.clear()
        settling = asyncio.create_task(desk.settle("h", 30, CHARGE))
        await asyncio.sleep(0)
        settling.cancel()
        assert await base.redis.llen(requests) == 0
        assert not settling.done(), "it is still on its way"
        relay.open.set()
        with pytest.raises(asyncio.CancelledError):
            await settling
        assert {orjson.loads(text)["hold"] for text in await base.redis.lrange(requests, 0, -1)} == {"h"}


async def test_what_the_store_took_without_saying_so_is_sent_again_and_counts_once(
    base: Base, far: Base, tenant: str, relay: Relay
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores, lease_s=60)
    async with desk_of(far, tenant) as desk, governing(base, tenant):
        assert not await desk.sent("none")
        relay.cut_next_answer = True
        hold = await desk.reserve(one.task_id, one.token, 100, 60)
        relay.cut_next_answer = True
        await desk.settle(hold, 30, CHARGE)
        assert relay.cuts == 2
        assert await desk.find(one.task_id, 0, "none") is None  # behind both
    balance = await stores.ledger.balance()
    assert (balance.held, balance.settled["lifetime"]) == (0, 30)


async def test_a_request_that_no_governor_would_understand_is_its_callers_alone(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores, lease_s=60)
    async with desk_of(base, tenant) as desk, governing(base, tenant):
        broken, whole = await asyncio.gather(
            desk.reserve(one.task_id, one.token, 2**70, 60),
            desk.reserve(one.task_id, one.token, 100, 60),
            return_exceptions=True,
        )
        assert isinstance(broken, TypeError)
        assert isinstance(whole, str)


async def test_who_waits_for_an_answer_when_the_desk_closes_is_told(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores, lease_s=60)
    async with desk_of(base, tenant) as desk:
        asking = asyncio.create_task(desk.reserve(one.task_id, one.token, 100, 60))
        async with asyncio.timeout(15):
            while not await base.redis.llen(stores.ledger.keys.requests):  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)
    async with asyncio.timeout(desks.GIVE_UP_S / 2):
        with pytest.raises(StoreUnavailable, match="closed"):
            await asking


async def test_a_desk_that_closes_asks_nothing_again(
    base: Base, far: Base, tenant: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(desks, "STOP_S", 2 * desks.LOOK_S)
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores, lease_s=60)
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    async with desk_of(far, tenant) as desk:
        asking = asyncio.create_task(desk.reserve(one.task_id, one.token, 100, 60))
        async with asyncio.timeout(15):
            while not await base.redis.llen(stores.ledger.keys.requests):  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)
        relay.open.clear()  # what waits for the store keeps the desk open for a while
        settling = asyncio.create_task(desk.settle("h", 30, CHARGE))
        await asyncio.sleep(0)
    relay.open.set()
    for told in await asyncio.gather(asking, settling, return_exceptions=True):
        assert isinstance(told, StoreUnavailable)
    assert not raised


async def test_two_desks_of_one_name_never_make_the_same_hold(base: Base, tenant: str) -> None:
    """A worker's process is restarted under no name of before, a judge's may be."""
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores, lease_s=60)
    holds = []
    async with governing(base, tenant):
        for _ in range(2):
            async with desk_of(base, tenant) as desk:
                holds += [await desk.reserve(one.task_id, one.token, 10, 60) for _ in range(2)]
    assert len(set(holds)) == 4
    assert (await stores.ledger.balance()).held == 40
