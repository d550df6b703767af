"""A tenant's whole recorder over HTTP: live, filtered, resumed, verified; and nobody else's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from chimera.core.scope import ALL, FLEET
from chimera.runtime.base import Base
from tests.serving.gateway.conftest import Fleet, submitted
from tests.serving.gateway.test_streams import everything, listen, live
from tests.store import drive

__all__ = ["live"]


def said(events: list[ServerSentEvent]) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events if event.event != "end"]


async def test_all_events_are_told_and_taken_up_where_they_stopped(
    live: httpx.AsyncClient, fleet: Fleet
) -> None:
    await fleet.do(await submitted(live))
    found = await everything(live, "/v1/events?follow=false")
    assert found[-1].event == "end"
    events = said(found)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    headers = {"Last-Event-ID": found[3].id}
    rest = await everything(live, "/v1/events?follow=false", headers=headers)
    assert said(rest) == events[4:]


async def test_they_are_filtered_by_kind_mission_task_and_span(live: httpx.AsyncClient, fleet: Fleet) -> None:
    first, second = await submitted(live), await submitted(live)
    await fleet.do(first)
    events = said(await everything(live, "/v1/events?follow=false"))

    async def asked(**params: str) -> list[dict[str, Any]]:
        query = httpx.QueryParams({"follow": "false", **params})
        return said(await everything(live, f"/v1/events?{query}"))

    assert await asked(mission=second) == [event for event in events if event["mission_id"] == second]
    wanted = await asked(kind="task.accepted, review.", task=f"{first}.1")
    assert {(event["kind"], event["task_id"]) for event in wanted} == {
        ("task.accepted", f"{first}.1"),
        ("review.claimed", f"{first}.1"),
    }
    middle = events[len(events) // 2]["at"]
    assert await asked(since=middle) == [event for event in events if event["at"] >= middle]
    assert await asked(until=middle) == [event for event in events if event["at"] < middle]


async def test_live_tells_what_happens_from_now_on(live: httpx.AsyncClient, fleet: Fleet) -> None:
    await submitted(live)
    told = asyncio.Queue[str]()

    async def follow() -> None:
        async for event in listen(live, "/v1/events?live=true&kind=mission."):
            told.put_nowait(json.loads(event.data)["mission_id"])

    following = asyncio.create_task(follow())
    async with asyncio.timeout(10):
        while told.empty():  # until it listens
            mission_id = await submitted(live)
            await asyncio.sleep(0.05)
        assert await told.get() <= mission_id
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_tenants_key_hears_of_its_own_and_the_fleets_of_any(
    live: httpx.AsyncClient, http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await submitted(live)
    for path in ("/v1/events?follow=false&tenant=other", "/v1/recorder/verify?tenant=other"):
        assert (await http.get(path)).status_code == 404
    made = await base.api_keys.create(FLEET, "fleets", by="t", scopes=ALL)
    fleets = {"Authorization": f"Bearer {made.key}"}
    unnamed = await http.get("/v1/events?follow=false", headers=fleets)
    assert (unnamed.status_code, "tenant=NAME" in unnamed.text) == (422, True)
    path = f"/v1/events?follow=false&tenant={tenant}"
    async with aconnect_sse(live, "GET", path, headers=fleets) as source:
        events = [json.loads(event.data) async for event in source.aiter_sse() if event.event != "end"]
    assert {event["tenant"] for event in events} == {tenant}
    verified = await http.get(f"/v1/recorder/verify?tenant={tenant}", headers=fleets)
    assert (verified.json()["tenant"], verified.json()["wrong"]) == (tenant, [])
    await base.api_keys.revoke(FLEET, made.record.key_id, "end", by="t", reason="the test is over")


async def test_verify_follows_the_chain_and_an_anchor(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await drive.over(base, tenant)
    found = (await http.get("/v1/recorder/verify")).json()
    assert found["wrong"] == []
    head = found["head"]
    params = {"position": head["position"], "hash": head["hash"]}
    assert (await http.get("/v1/recorder/verify", params=params)).json()["wrong"] == []
    params["hash"] = "0" * 64
    assert (
        "does not lead through" in (await http.get("/v1/recorder/verify", params=params)).json()["wrong"][0]
    )
    assert (await http.get("/v1/recorder/verify?position=x&hash=y")).status_code == 422


@pytest.mark.parametrize(
    "query", ["kind=" + ",".join("abcdefghijklmnopqrstuvw"), "since=0001-01-01T00:00:00+14:00"]
)
async def test_what_cannot_be_is_refused(http: httpx.AsyncClient, query: str) -> None:
    assert (await http.get(f"/v1/events?follow=false&{query}")).status_code == 422
