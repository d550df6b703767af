"""On a cluster, each script touches one slot: what begins with a line for Redis is held to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chimera.errors import StoreError
from chimera.runtime.base import Base, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from tests import troubles
from tests.store.test_repeats import CASES, Case, outcome


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A cluster's only node, which serves every slot."""
    directory = tmp_path_factory.mktemp("cluster")
    with RedisServer(directory, fsync="no", directives=troubles.cluster()) as server:
        asyncio.run(troubles.serve_all_slots(server))
        yield server


@pytest.fixture
async def base(node: RedisServer, tmp_path: Path) -> AsyncIterator[Base]:
    opened = await open_base(load(redis_url=node.url, state_dir=tmp_path))
    yield opened
    await opened.close()


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.script}-{one.name}")
async def test_a_script_runs_on_a_cluster(one: Case, base: Base, tenant: str) -> None:
    call = await one.stage(base, tenant)
    assert not isinstance(await outcome(call, base, tenant), StoreError)
