"""A store fills up under a working fleet: the door closes, what is under way ends, the door opens again."""

from __future__ import annotations

import asyncio
import json
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
from chimera.errors import QueueFull
from chimera.runtime.base import Base, open_base
from chimera.runtime.elector import Elector
from chimera.runtime.retention import ROOM_AT, Retention
from chimera.serving.gateway import Hub, create_app
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from chimera.store import keys
from chimera.store.room import ASK_AGAIN_S, FULL_AT
from tests import troubles
from tests.keys import key_of
from tests.runtime.fleet import registry, running
from tests.store import drive

pytestmark = pytest.mark.chaos

MEMORY = 16 << 20
ITEM = "x" * 4_000
SMALL, LARGE = 200, 1_500


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", fsync="no", maxmemory_bytes=MEMORY) as server:
        yield server


@pytest.fixture
def settings(small: RedisServer, tmp_path: Path) -> Settings:
    return load(
        **{"redis_url": small.url, "state_dir": tmp_path, "slots": 64, "max_workers": 2, "idle_s": 60},
        **{"recorder_live": 100, "recorder_flush_s": 0.2},
    )


@pytest.fixture
async def base(settings: Settings) -> AsyncIterator[Base]:
    opened = await open_base(settings)
    await opened.tenants.add("acme")
    await opened.catalogue.publish({"pays": {"description": "Pays for its result."}})
    yield opened
    await opened.close()


@pytest.fixture
async def http(base: Base) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {await key_of(base, 'acme')}"}
    transport = httpx.ASGITransport(create_app(Hub(base)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as client:
        yield client


async def submit(http: httpx.AsyncClient, inputs: int) -> httpx.Response:
    mission = {"goal": "Pay.", "agent": "pays", "inputs": [ITEM] * inputs, "budget_usd": "1"}
    return await http.post("/v1/missions", json=mission)


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
                assert mission.counts["ACCEPTED"] == SMALL
                # What the last of them cost stands in the store; the governor may not have booked it yet.
                await fleet.until(lambda mission: mission.settled_microusd == SMALL * 300, mission_id)
                assert mission.tallies == {}
            waiting = await fleet.until(
                lambda mission: mission.counts["ACCEPTED"] == mission.planned, large, timeout_s=60
            )
            assert waiting.status is MissionStatus.RUNNING
            assert 0 < waiting.planned < LARGE
            assert await troubles.refuses(small), "all of it at a hundred percent"
            await refused(http)

            await troubles.clear(small)
            fleet.retention.early_s = 0  # those that are over make room for the rest of the large one
            mission = await fleet.rest(large, timeout_s=90)
            assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, LARGE)
            assert any([not await fleet.stores.missions.stands(mission_id) for mission_id in taken])
            for mission_id in taken:
                lines = (await http.get(f"/v1/missions/{mission_id}/results")).text.splitlines()
                assert len(lines) == SMALL
            again = await until_taken(http)
            assert again.status_code == 201
            assert (await fleet.rest(again.json()["mission_id"])).status is MissionStatus.COMPLETED
    said = [line["event"] for line in logs if line["event"].startswith("planner.")]
    assert said[:2] == ["planner.waits", "planner.goes_on"], "it says so once"
    assert len(said) <= 4


async def until_taken(http: httpx.AsyncClient) -> httpx.Response:
    """Submit until it is taken, as a client does."""
    async with asyncio.timeout(60):
        while (response := await submit(http, 1)).status_code == 503:  # noqa: ASYNC110 (another service makes room)
            await asyncio.sleep(0.2)  # it would come back after Retry-After
    return response


@pytest.mark.timeout(180)
async def test_a_store_full_of_finished_missions_makes_room_for_new_ones(
    base: Base, http: httpx.AsyncClient, small: RedisServer
) -> None:
    stores, made = base.of("acme"), list[str]()
    while await troubles.taken(small) < FULL_AT - 0.02:
        name = f"m{len(made):03d}"
        await troubles.clear(small, f"{stores.recorder.keys.log}")  # what an archivist does
        try:
            await drive.submit(base, "acme", drive.spec(inputs=[ITEM] * 20), name)
            assert await drive.plan(base, "acme", drive.spec(inputs=[ITEM] * 20), name)
        except QueueFull:
            await asyncio.sleep(ASK_AGAIN_S)  # so old may the figure be: the log was there then
            continue
        made.append(name)
        await drive.finish(stores, 20, {"of": made[-1]})
        await drive.end(stores, made[-1])
    # The rest by something that is no mission: one that passes the mark itself would be refused for ever.
    missing = FULL_AT + 0.01 - await troubles.taken(small)
    await base.redis.set("ballast", "x" * int(missing * MEMORY))
    await refused(http)
    elector = Elector(base.election("retention"), "hub")
    await base.redis.set(keys.last_term("retention"), drive.TERM)
    service = Retention(base, elector)
    elector.start()
    await elector.led()
    await service.run_once()
    await refused(http)
    assert await stores.pruning.count() == len(made), "the youngest age is stated, and holds"
    service.early_s = 0
    with capture_logs() as logs:
        await service.run_once()
    await elector.stop()
    (said,) = [line for line in logs if line["event"] == "retention.made_room"]
    assert said["taken"] <= ROOM_AT  # it is told rounded
    left = await stores.missions.list_ids(most=1_000)
    assert 0 < len(left) < len(made)
    assert sorted(left) == made[len(made) - len(left) :], "those that ended first went first"
    response = await until_taken(http)
    assert response.status_code == 201
    for mission_id in made:
        mission = (await http.get(f"/v1/missions/{mission_id}")).json()
        assert mission["status"] == "COMPLETED"
        assert bool(mission["archived_at"]) == (mission_id not in left)
        lines = (await http.get(f"/v1/missions/{mission_id}/results")).text.splitlines()
        assert [json.loads(line)["result"] for line in lines] == [{"of": mission_id}] * 20


async def refused(http: httpx.AsyncClient) -> None:
    await asyncio.sleep(ASK_AGAIN_S)  # the gateway's figure is a second old at most
    response = await submit(http, 1)
    assert response.status_code == 503
    assert response.json()["type"] == "urn:chimera:problem:queue-full"
    assert response.headers["Retry-After"] == "5"
