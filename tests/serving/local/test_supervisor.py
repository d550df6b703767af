"""The supervisor's guard over the embedded Redis, without the rest of a fleet."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from chimera.core.scope import ALL, FLEET
from chimera.errors import BackendError, StoreError
from chimera.runtime.base import Base, open_base
from chimera.serving.local import supervisor as module
from chimera.serving.local.redis_server import RedisServer
from chimera.serving.local.stages import Stage
from chimera.serving.local.state import TENANT, StateDir
from chimera.serving.local.supervisor import Supervisor
from chimera.settings import Settings
from chimera.store.users import user_of
from tests import troubles

pytestmark = pytest.mark.chaos


@asynccontextmanager
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[Supervisor, RedisServer, asyncio.Task[None]]]:
    """A Redis under guard."""
    state = StateDir(tmp_path / "fleet")
    state.prepare()
    supervisor = Supervisor(Settings(state_dir=state.path), state)
    redis = supervisor._redis
    assert redis is not None
    await supervisor._stage(Stage.REDIS, supervisor._start_redis)
    guard = asyncio.create_task(
        supervisor._guard(Stage.REDIS, supervisor._redis_ended, supervisor._start_redis)
    )
    try:
        yield supervisor, redis, guard
    finally:
        guard.cancel()
        await asyncio.gather(guard, return_exceptions=True)
        redis.stop()
        state.forget()


async def kill(redis: RedisServer) -> int:
    pid = redis.process.pid
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while redis._process is None or redis.process.pid == pid:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.005)  # the guard's turn
    return redis.process.pid


async def back(base: Base) -> Any:
    async with asyncio.timeout(20):
        while True:
            try:
                return await base.tenants.names()
            except StoreError:
                await asyncio.sleep(0.02)  # it is starting


async def connected(redis: RedisServer, tmp_path: Path) -> Base:
    return await open_base(Settings(redis_url=SecretStr(redis.url), state_dir=tmp_path))


async def test_a_killed_redis_comes_back_at_its_address_with_all_it_acknowledged(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (supervisor, redis, guard):
        url = redis.url
        base = await connected(redis, tmp_path)
        written = 0
        for _ in range(3):
            for _ in range(20):
                await base.redis.set(f"key:{written}", written)
                written += 1
            await kill(redis)
            assert await back(base) == [TENANT]
            assert [await base.redis.get(f"key:{number}") for number in range(written)] == [
                str(number) for number in range(written)
            ]
        assert redis.url == url
        key = supervisor._state.api_key.read_text(encoding="utf-8").strip()
        assert (await base.api_keys.authenticate(key)).tenant == TENANT
        users = await base.redis.execute_command("ACL USERS")
        assert {user_of("judge"), user_of("worker", TENANT)} <= set(users)
        principal = await base.api_keys.authenticate(supervisor._state.admin_key.read_text(encoding="utf-8"))
        assert (principal.tenant, principal.scopes) == (FLEET, ALL)
        assert not guard.done()
        await base.close()


async def test_a_redis_killed_again_while_it_starts_is_started_again(tmp_path: Path) -> None:
    chance = random.Random(3)
    async with guarded(tmp_path) as (_, redis, guard):
        base = await connected(redis, tmp_path)
        for _ in range(2):
            os.kill(await kill(redis), signal.SIGKILL)  # the one that has just been made
            assert await back(base) == [TENANT]
            await asyncio.sleep(chance.random() * 0.1)
        assert not guard.done()
        await base.close()


async def test_a_redis_that_is_full_when_it_comes_back_is_full_and_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAXMEMORY_BYTES", 8 << 20)
    async with guarded(tmp_path) as (_, redis, guard):
        base = await connected(redis, tmp_path)
        await troubles.fill(redis)
        assert await troubles.refuses(redis)
        await base.redis.config_set("maxmemory", 64 << 20)
        await base.redis.set("foreign:over", "x" * (4 << 20))
        await kill(redis)  # it comes back with the bound of its file, and more than that in its log
        assert await back(base) == [TENANT]
        assert await troubles.refuses(redis)
        assert not guard.done()
        await base.close()


async def test_a_redis_that_dies_too_often_ends_the_fleet(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, redis, guard):
        while not guard.done():
            os.kill(redis.process.pid, signal.SIGKILL)
            redis.process.wait()
            await asyncio.sleep(0.01)
        with pytest.raises(BackendError, match="ended 5 times within 60 s"):
            await guard
