"""A world of its own for each test: a server, a tenant, and whatever processes it starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chimera.runtime.base import open_base
from chimera.runtime.users import UserKeeper, reconcile
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from chimera.store import keys
from chimera.store.signals import Wakeups
from tests.chaos.world import AGENTS, TENANT, World
from tests.runtime.nursery import Nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Where processes come from."""
    with Nursery(tmp_path_factory.mktemp("nursery")) as made:
        yield made


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server on a free port."""
    with RedisServer(tmp_path / "redis", fsync="no") as server:
        yield server


@pytest.fixture
async def world(redis: RedisServer, tmp_path: Path, nursery: Nursery) -> AsyncIterator[World]:
    """No process yet."""
    settings = load(
        redis_url=redis.url,
        state_dir=tmp_path,
        agents=str(AGENTS),
        lease_s=1.5,
        heartbeat_s=0.3,
        slots=16,
        express_slots=0,
        spares=0,
        log_format="json",
        redis_users="roles",
        redis_secret="of the tests, and of nobody else",
    )
    base = await open_base(settings)
    await base.tenants.add(TENANT)
    await reconcile(base)
    async with Wakeups(base.blocking, keys.USERS) as wakeups:
        made = World(settings, base, tmp_path, nursery, UserKeeper(base, wakeups))
        made.users.start()
        try:
            yield made
        finally:
            made.close()
            await made.users.stop()
            await base.close()
