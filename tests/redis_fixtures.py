"""Fixtures for tests that need a real Redis: one server a test process, a tenant a test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chimera.runtime.base import Base, base_of, open_base
from chimera.runtime.users import reconcile
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from chimera.store.rights import Role
from chimera.store.users import as_role

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real server on a free loopback port."""
    with RedisServer(tmp_path_factory.mktemp("redis"), fsync="no", maxmemory_bytes=1 << 30) as server:
        yield server


@pytest.fixture
def tenant() -> str:
    """A tenant no other test uses."""
    return f"t{next(_numbers)}"


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    """Settings against that server, quick enough for tests."""
    return load(
        redis_url=redis_server.url,
        state_dir=tmp_path,
        lease_s=0.6,
        heartbeat_s=0.1,
        reserve_wait_s=0.2,
        idle_s=0.5,
        redis_users="roles",
        redis_secret="of the tests, and of nobody else",
    )


@asynccontextmanager
async def logged_in(settings: Settings, role: Role, tenant: str = "") -> AsyncIterator[Base]:
    """Connections of a role's user, where `reconcile` has made it."""
    opened = base_of(as_role(settings, role, tenant))
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def base(settings: Settings, tenant: str) -> AsyncIterator[Base]:
    """The operator's connections, with the test's tenant made, and the users of all roles."""
    opened = await open_base(settings)
    await opened.tenants.add(tenant)
    await reconcile(opened)
    yield opened
    await opened.tenants.remove(tenant)
    await opened.close()
