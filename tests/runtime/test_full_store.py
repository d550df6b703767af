"""A store fills up under a working fleet: the door closes, what is under way ends, the door opens again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from chimera.agents.context import Context
from chimera.agents.purse import Charge
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.runtime.base import Base, open_base
from chimera.serving.gateway import Hub, create_app
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from chimera.store.room import ASK_AGAIN_S, FULL_AT
from tests import troubles
from tests.runtime.fleet import Fleet, registry, running

pytestmark = pytest.mark.chaos

MEMORY = 12 << 20
ITEM = "x" * 4_000
SMALL, LARGE = 200, 1_500


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", fsync="no", maxmemory_bytes=MEMORY) as server:
        yield server


@pytest.fixture
def settings(small: RedisServer, tmp_path: Path) -> Settings:
    return load(redis_url=small.url, state_dir=tmp_path, slots=64, max_workers=2, idle_s=60)


@pytest.fixture
async def base(settings: Settings) -> AsyncIterator[Base]:
    opened = await open_base(settings)
    await opened.tenants.add("acme")
    await opened.catalogue.publish({"pays": {"description": "Pays for its result."}})
    yield opened
    await opened.close()


@pytest.fixture
async def http(base: Base) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {await base.tenants.new_key('acme')}"}
    transport = httpx.ASGITransport(create_app(Hub(base)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as client:
        yield client


async def submit(http: httpx.AsyncClient, inputs: int) -> httpx.Response:
    mission = {"goal": "Pay.", "agent": "pays", "inputs": [ITEM] * inputs, "budget_usd": "1"}
    return await http.post("/v1/missions", json=mission)


async def retain_nothing(fleet: Fleet, missions: list[str]) -> None:
    """What a retention service does with finished missions, done by hand."""
    store = fleet.stores.missions
    for mission_id in missions:
        async for key in fleet.base.redis.scan_iter(match=f"*:{mission_id}*", count=10_000):
            await fleet.base.redis.unlink(key)
        await fleet.base.redis.zrem(store.keys.missions, mission_id)
    await fleet.base.redis.xtrim(store.keys.log, maxlen=0)


@pytest.mark.timeout(180)
async def test_a_store_fills_up_drains_and_takes_new_work_again(
    base: Base, http: httpx.AsyncClient, small: RedisServer
) -> None:
    go_on = asyncio.Event()

    async def pays(task: Task, ctx: Context) -> Any:
        await go_on.wait()
        hold = await ctx.model.purse.reserve(amount_microusd=500, model="m", agent="pays", ttl_s=60)
        await ctx.model.purse.settle(hold, cost_microusd=300, charge=Charge("m", 1, 1, 300, "test"))
        return "paid"

    with capture_logs() as logs:
        async with running(base, "acme", registry(pays=pays)) as fleet:
            taken: list[str] = []
            while await troubles.taken(small) < FULL_AT - 0.1:
                response = await submit(http, SMALL)
                assert response.status_code == 201
                taken.append(response.json()["mission_id"])
                await fleet.until(lambda mission: mission.planned_all, taken[-1])
            # Acknowledged while there was room; planned as far as there is.
            large = (await submit(http, LARGE)).json()["mission_id"]
            async with asyncio.timeout(20):
                while not any(line["event"] == "planner.waits" for line in logs):  # noqa: ASYNC110 (nothing tells of it)
                    await asyncio.sleep(0.05)  # the planner finds out in its own time
            await refused(http)
            await troubles.fill(small)
            assert await troubles.refuses(small)
            await refused(http)
            ready = (await http.get("/readyz")).json()["parts"]["redis"]
            assert "new missions are refused" in ready["detail"]

            go_on.set()
            for mission_id in taken:
                mission = await fleet.rest(mission_id, timeout_s=90)
                assert mission.status is MissionStatus.COMPLETED
                assert (mission.counts["ACCEPTED"], mission.settled_microusd) == (SMALL, SMALL * 300)
                assert mission.tallies == {}
            waiting = await fleet.until(
                lambda mission: mission.counts["ACCEPTED"] == mission.planned, large, timeout_s=60
            )
            assert waiting.status is MissionStatus.RUNNING
            assert 0 < waiting.planned < LARGE
            assert await troubles.refuses(small), "all of it at a hundred percent"
            await refused(http)

            await troubles.clear(small)
            await retain_nothing(fleet, taken)
            mission = await fleet.rest(large, timeout_s=90)
            assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, LARGE)
            await retain_nothing(fleet, [large])
            await asyncio.sleep(ASK_AGAIN_S)
            again = await submit(http, 1)
            assert again.status_code == 201
            assert (await fleet.rest(again.json()["mission_id"])).status is MissionStatus.COMPLETED
    said = [line["event"] for line in logs if line["event"].startswith("planner.")]
    assert said[:2] == ["planner.waits", "planner.goes_on"], "it says so once"
    assert len(said) <= 4


async def refused(http: httpx.AsyncClient) -> None:
    await asyncio.sleep(ASK_AGAIN_S)  # the gateway's figure is a second old at most
    response = await submit(http, 1)
    assert response.status_code == 503
    assert response.json()["type"] == "urn:chimera:problem:queue-full"
    assert response.headers["Retry-After"] == "5"
