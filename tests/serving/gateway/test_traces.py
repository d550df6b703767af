"""Traces at the door: a caller's own is taken over, kept with the mission, and sent on to the model."""

from __future__ import annotations

import json

import httpx
import pytest

from chimera.client import Client
from chimera.core import trace
from chimera.runtime.base import Base
from tests.serving.gateway.chatting import ASKED, MODEL, chatting
from tests.serving.gateway.conftest import MISSION, Fleet

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GIVEN = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize("sent", ["document", "lines"])
async def test_a_mission_is_kept_with_the_trace_of_its_submit(
    http: httpx.AsyncClient, fleet: Fleet, sent: str
) -> None:
    headers = {"traceparent": GIVEN}
    if sent == "lines":
        mission = {name: value for name, value in MISSION.items() if name != "inputs"}
        body = f"{json.dumps(mission)}\n1\n".encode()
        headers["Content-Type"] = "application/x-ndjson"
        made = await http.post("/v1/missions", content=body, headers=headers)
    else:
        made = await http.post("/v1/missions", json=MISSION, headers=headers)
    assert made.status_code == 201
    read = (await http.get(made.headers["Location"])).json()
    assert made.json()["trace_id"] == read["trace_id"] == TRACE


async def test_a_header_that_is_no_trace_refuses_nothing(http: httpx.AsyncClient, tenant: str) -> None:
    made = await http.post("/v1/missions", json=MISSION, headers={"traceparent": "nonsense"})
    assert made.status_code == 201
    own = trace.of_mission(tenant, made.json()["mission_id"])
    assert made.json()["trace_id"] == own.trace_id


async def test_the_python_client_submits_within_a_trace(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site, Client(site.url, site.key) as client:
        few = await client.submit({**MISSION, "agent": "echo"}, traceparent=GIVEN)
        many = await client.submit({**MISSION, "inputs": iter(range(3)), "agent": "echo"}, traceparent=GIVEN)
    assert few.trace_id == many.trace_id == TRACE


async def test_a_chat_completion_is_sent_within_the_callers_span_or_the_tasks(
    base: Base, tenant: str
) -> None:
    async with chatting(base, tenant) as site:
        task = await site.claim(agent="echo")
        client = site.client(task=task.task_id)
        await client.chat.completions.create(model=MODEL, messages=ASKED)
        await client.chat.completions.create(
            model=MODEL, messages=ASKED, extra_headers={"traceparent": GIVEN}
        )
        stream = await client.chat.completions.create(
            model=MODEL, messages=ASKED, stream=True, extra_headers={"traceparent": GIVEN}
        )
        async for _ in stream:
            pass
        await site.client().chat.completions.create(model=MODEL, messages=ASKED)
        sent = [seen.headers.get("traceparent") for seen in site.endpoint.seen]
    mission = trace.of_mission(tenant, task.mission_id)
    own = mission.parent(trace.span(tenant, task.task_id, task.round, task.attempt))
    assert sent == [own, GIVEN, GIVEN, None]
