"""What the drill does to Redis: it is harmed while the fault lasts, and whole after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chimera.chaos import outages
from chimera.errors import QueueFull, StoreError, StoreUnavailable
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from chimera.store.connection import Redis, connect, translated


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    with RedisServer(tmp_path / "redis", fsync="no", maxmemory_bytes=1 << 30) as server:
        yield load(redis_url=server.url, state_dir=tmp_path)


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    client = connect(settings)
    await client.set("kept", "1")
    yield client
    await client.aclose()


async def refusal(redis: Redis) -> StoreError | QueueFull:
    """The error that a write meets before long."""
    async with asyncio.timeout(5):
        while True:
            try:
                with translated():
                    await redis.set("written", "x" * 100)
            except (StoreError, QueueFull) as exc:
                return exc
            await asyncio.sleep(0.01)  # the fault comes from a connection of its own


async def test_a_read_only_redis_refuses_writes_and_keeps_its_data(settings: Settings, redis: Redis) -> None:
    outage = asyncio.create_task(outages.read_only(settings, 0.5))
    assert isinstance(await refusal(redis), StoreUnavailable)
    assert await redis.get("kept") == "1"
    await outage
    assert await redis.set("written", "2")
    assert await redis.get("kept") == "1"


async def test_a_full_redis_refuses_writes_and_has_its_room_back(settings: Settings, redis: Redis) -> None:
    outage = asyncio.create_task(outages.full(settings, 0.5))
    assert isinstance(await refusal(redis), QueueFull)
    await outage
    assert await redis.set("written", "x" * 1_000_000)
    assert (await redis.config_get("maxmemory"))["maxmemory"] == str(1 << 30)


async def test_a_full_redis_that_dies_meanwhile_is_mended_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer(tmp_path / "redis", maxmemory_bytes=1 << 30) as server:
        chosen = load(redis_url=server.url, state_dir=tmp_path)
        outage = asyncio.create_task(outages.full(chosen, 0.4))
        await asyncio.sleep(0.2)
        server.kill()
        await asyncio.sleep(0.4)  # the fault ends while nobody is there to mend
        server.start()
        await outage
        client = connect(chosen)
        assert (await client.config_get("maxmemory"))["maxmemory"] == str(1 << 30)
        await client.aclose()


async def test_a_slow_redis_answers_late(settings: Settings, redis: Redis) -> None:
    outage = asyncio.create_task(outages.slow(settings, 1.0, 0.5))
    slowest = 0.0
    while not outage.done():
        began = time.monotonic()
        await redis.get("kept")
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0)
    await outage
    assert slowest > 0.02


async def test_a_cut_ends_every_connection_but_the_next_one_works(settings: Settings, redis: Redis) -> None:
    blocked = asyncio.create_task(redis.blpop(["nothing"], timeout=4))
    async with asyncio.timeout(5):
        while not int((await redis.info("clients"))["blocked_clients"]):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.01)
    await outages.cut(settings)
    with pytest.raises(StoreUnavailable), translated():
        await blocked
    other = connect(settings)
    assert await other.get("kept") == "1"
    await other.aclose()


async def test_forgotten_scripts_are_sent_again(settings: Settings, redis: Redis) -> None:
    script = redis.register_script("return 1")
    assert await script() == 1
    await outages.flush(settings)
    assert await redis.script_exists(script.sha) == [False]
    assert await script() == 1
