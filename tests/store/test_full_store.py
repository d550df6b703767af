"""A full store takes no new work, and lets all that is under way come to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from chimera.errors import QueueFull, StoreError
from chimera.runtime.base import Base, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from chimera.store.room import ASK_AGAIN_S, FULL_AT, Room
from chimera.store.scripts import source
from tests import troubles
from tests.store import drive
from tests.store.test_repeats import CASES, Case, outcome, state

REFUSED = {
    "submit_mission": "new work",
    "plan_tasks": "new work: the rest of a mission waits in the blob store",
    "edit_mission": "what was done under the old state is done again",
    "redrive_tasks": "new work: what had ended begins anew",
}
"""Scripts that a full store does not run, and why. All others end work, free it, or let it be ended: a task
must be claimed and its calls be paid before it can end, a leader be elected, a limit be lowered."""

SCRIPTS = sorted(
    path.name.removesuffix(".lua")
    for path in (files("chimera.store") / "lua").iterdir()
    if path.name.endswith(".lua")
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_in_its_first_line_whether_a_full_store_runs_it(name: str) -> None:
    first, second, *_ = source(name).splitlines()
    assert first == ("#!lua" if name in REFUSED else "#!lua flags=allow-oom")
    assert second.startswith("-- "), "the contract follows"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("small"), fsync="no", maxmemory_bytes=64 << 20) as server:
        yield server


@pytest.fixture
async def base(small: RedisServer, tmp_path: Path) -> AsyncIterator[Base]:
    opened = await open_base(load(redis_url=small.url, state_dir=tmp_path))
    yield opened
    await opened.close()


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.script}-{one.name}")
async def test_at_a_hundred_percent_work_ends_and_none_begins(
    one: Case, base: Base, small: RedisServer, tenant: str
) -> None:
    call = await one.stage(base, tenant)
    await base.room.taken()  # as of before: the script itself must refuse
    before = await state(base, tenant)
    async with troubles.full(small):
        answer = await outcome(call, base, tenant)
    if one.script in REFUSED:
        assert isinstance(answer, QueueFull)
        assert await state(base, tenant) == before, "all or nothing"
    else:
        assert not isinstance(answer, QueueFull | StoreError)


async def test_a_fleet_may_start_on_a_store_that_is_full(base: Base, small: RedisServer) -> None:
    async with troubles.full(small):
        again = await open_base(base.settings)
        await again.tenants.add("local")
        await again.api_keys.let_in("local", "key")
        await again.of("local").ledger.set_limits({drive.DAY: 5}, by="environment")
        await again.catalogue.publish({"echo": {}})
        assert await again.election("orchestrator").lead("me", ttl_s=1) is not None
        await again.close()


async def test_new_work_is_refused_from_the_watermark_on(base: Base, small: RedisServer, tenant: str) -> None:
    await troubles.fill(small, FULL_AT - 0.02)
    await Room(base.redis).require()
    await troubles.fill(small, FULL_AT + 0.01)
    with pytest.raises(QueueFull, match=r"8\d% full.* from 80% on") as refused:
        await Room(base.redis).require()
    assert refused.value.retry_after_s == 5
    assert await troubles.taken(small) < 1, "long before Redis itself refuses"
    await troubles.clear(small)
    await Room(base.redis).require()


async def test_redis_is_asked_for_its_memory_once_a_second_however_many_ask(base: Base) -> None:
    room = Room(base.redis)
    calls = "cmdstat_info"

    async def asked() -> int:
        return int((await base.redis.info("commandstats"))[calls]["calls"])

    before = await asked()
    await asyncio.gather(*(room.taken() for _ in range(500)))
    between = await asked()
    # Of these, one is the room's: each look at the statistics is one too.
    assert between - before == 2
    await asyncio.sleep(ASK_AGAIN_S)
    await room.taken()
    assert await asked() - between == 2


async def test_a_store_without_a_bound_is_never_full(tmp_path: Path) -> None:
    with RedisServer(tmp_path, fsync="no") as server:
        base = await open_base(load(redis_url=server.url, state_dir=tmp_path))
        assert await base.room.taken() == 0
        await base.room.require()
        await base.close()
