from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from httpx_sse import ServerSentEvent, aconnect_sse

from chimera.core.verdict import Decision
from chimera.runtime.base import Base
from chimera.serving.gateway.routes import streams as stream_routes
from tests.serving.gateway.conftest import Fleet, submitted
from tests.store import drive, history


@pytest.fixture
async def live(url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as client:
        yield client


async def listen(live: httpx.AsyncClient, path: str, **kwargs: Any) -> AsyncGenerator[ServerSentEvent, None]:
    async with aconnect_sse(live, "GET", path, **kwargs) as source:
        assert source.response.status_code == 200
        async for event in source.aiter_sse():
            yield event


async def everything(live: httpx.AsyncClient, path: str, **kwargs: Any) -> list[ServerSentEvent]:
    async with asyncio.timeout(10):
        return [event async for event in listen(live, path, **kwargs)]


async def test_watch_shows_the_mission_now_and_whenever_it_changed_until_it_is_final(
    live: httpx.AsyncClient, fleet: Fleet
) -> None:
    mission_id = await submitted(live)
    statuses: list[str] = []
    stream = listen(live, f"/v1/missions/{mission_id}/watch")
    async with asyncio.timeout(10):
        async for event in stream:
            if event.event == "end":
                break
            mission = json.loads(event.data)
            if not statuses:
                await fleet.do(mission_id)
            statuses.append(mission["status"])
    assert statuses[0] == "RUNNING"
    assert statuses[-1] == "COMPLETED"
    assert mission["counts"]["ACCEPTED"] == 2


async def test_watch_of_a_final_mission_is_one_snapshot_and_the_end(
    live: httpx.AsyncClient, fleet: Fleet
) -> None:
    mission_id = await submitted(live)
    await fleet.do(mission_id)
    events = await everything(live, f"/v1/missions/{mission_id}/watch")
    assert [event.event for event in events] == ["mission", "end"]


async def test_a_silent_stream_says_that_it_lives(
    live: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_routes, "HEARTBEAT_S", 0.05)
    mission_id = await submitted(live)
    async with asyncio.timeout(10), live.stream("GET", f"/v1/missions/{mission_id}/watch") as response:
        async for line in response.aiter_lines():
            if line == ": still here":
                break


async def test_events_are_the_missions_own_in_order_and_end_when_all_is_settled(
    live: httpx.AsyncClient, fleet: Fleet
) -> None:
    await submitted(live)
    mission_id = await submitted(live)
    await fleet.do(mission_id)
    events = await everything(live, f"/v1/missions/{mission_id}/events")
    kinds = [event.event for event in events]
    assert kinds[0] == "mission.submitted"
    assert kinds[-2:] == ["mission.completed", "end"]
    assert kinds.count("task.accepted") == 2
    seqs = [json.loads(event.data)["seq"] for event in events[:-1]]
    assert seqs == sorted(set(seqs))
    assert {json.loads(event.data)["mission_id"] for event in events[:-1]} == {mission_id}


async def test_events_resume_after_any_one_without_gap_or_repeat(
    live: httpx.AsyncClient, fleet: Fleet
) -> None:
    mission_id = await submitted(live)
    await fleet.do(mission_id)
    path = f"/v1/missions/{mission_id}/events"
    whole = (await everything(live, path))[:-1]
    for index, event in enumerate(whole):
        rest = await everything(live, path, headers={"Last-Event-ID": event.id})
        assert [one.id for one in rest[:-1]] == [one.id for one in whole[index + 1 :]]


async def test_events_without_follow_end_with_the_newest(live: httpx.AsyncClient) -> None:
    mission_id = await submitted(live)
    events = await everything(live, f"/v1/missions/{mission_id}/events", params={"follow": "false"})
    kinds = ["mission.submitted", "mission.running", "mission.planned", "end"]
    assert [event.event for event in events] == kinds


async def test_followed_events_arrive_as_they_happen(live: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await submitted(live)
    seen: list[str] = []
    async with asyncio.timeout(10):
        async for event in listen(live, f"/v1/missions/{mission_id}/events"):
            if not seen:
                await fleet.do(mission_id, Decision.ACCEPT)
            seen.append(event.event)
    assert seen[-2:] == ["mission.completed", "end"]


async def test_events_that_left_redis_come_from_the_archive_whole_and_from_any_one_on(
    live: httpx.AsyncClient, fleet: Fleet, base: Base, tenant: str
) -> None:
    mission_id = await submitted(live)
    await fleet.do(mission_id)
    path = f"/v1/missions/{mission_id}/events"
    whole = await everything(live, path)
    # Others' events follow, and all but the last entry is trimmed.
    await history.write(base, tenant, 30)
    await history.archive(base, tenant)
    while await fleet.stores.sink.trim(keep=0, term=drive.TERM):
        pass
    assert await base.redis.xlen(fleet.stores.recorder.keys.log) == 1
    assert [(one.event, one.id) for one in await everything(live, path)] == [
        (one.event, one.id) for one in whole
    ]
    for index, event in enumerate(whole[:-1]):
        rest = await everything(live, path, headers={"Last-Event-ID": event.id})
        assert [one.id for one in rest[:-1]] == [one.id for one in whole[index + 1 : -1]]


async def test_a_stream_goes_on_while_what_it_has_given_leaves_redis(
    live: httpx.AsyncClient, fleet: Fleet, base: Base, tenant: str
) -> None:
    mission_id = await submitted(live)
    seen: list[str] = []
    async with asyncio.timeout(20):
        async for event in listen(live, f"/v1/missions/{mission_id}/events"):
            if event.event == "mission.submitted":
                await history.write(base, tenant, 5)
                await history.archive(base, tenant, term=1)
                while await fleet.stores.sink.trim(keep=0, term=1):
                    pass
                await fleet.do(mission_id)
            seen.append(event.event)
    assert seen[-2:] == ["mission.completed", "end"]
    assert seen.count("task.accepted") == 2
    assert len(seen) == len(await everything(live, f"/v1/missions/{mission_id}/events"))


@pytest.mark.parametrize("wrong", ["abc", "1-2/3", "1/1-2/x", "1/1-2/3/4"])
async def test_a_wrong_last_event_id_is_refused(live: httpx.AsyncClient, wrong: str) -> None:
    path = f"/v1/missions/{await submitted(live)}/events"
    response = await live.get(path, headers={"Last-Event-ID": wrong})
    assert response.status_code == 422
    assert wrong in response.json()["detail"]


async def test_too_many_streams_of_a_tenant_are_refused_and_closed_ones_give_their_place_back(
    live: httpx.AsyncClient, app: FastAPI, hub: Any
) -> None:
    path = f"/v1/missions/{await submitted(live)}/watch"
    opened = [listen(live, path) for _ in range(hub.max_tenant_streams)]
    for stream in opened:
        await anext(stream)
    refused = await live.get(path)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "5"
    assert "too many event streams" in refused.json()["detail"]
    for stream in opened:
        await stream.aclose()
    async with asyncio.timeout(5):
        # The server notices a closed connection in its own time, and tells nobody.
        while app.state.streams.open:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.01)
    again = listen(live, path)
    assert (await anext(again)).event == "mission"
    await again.aclose()


async def test_streams_of_a_tenant_share_one_blocking_read(live: httpx.AsyncClient, base: Base) -> None:
    path = f"/v1/missions/{await submitted(live)}/watch"
    streams = [listen(live, path) for _ in range(3)]
    for stream in streams:
        await anext(stream)
    clients = await base.redis.client_list()
    assert sum(client["cmd"] == "xread" for client in clients) <= 1
    for stream in streams:
        await stream.aclose()
