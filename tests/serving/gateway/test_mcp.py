"""Chimera as an MCP server: the official client calls each tool over a real socket."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import mcp_types
import orjson
import pytest
from fastapi import FastAPI
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from chimera.core.scope import ALL, FLEET, Scope
from chimera.core.verdict import Decision
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub
from chimera.serving.gateway.mcpdoor import origins
from chimera.serving.gateway.mcptools import TOOLS
from chimera.settings import load
from tests.keys import key_of
from tests.serving.gateway.conftest import MISSION, Fleet, submitted

MODES = ("legacy", "2026-07-28")
MESSAGE = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@asynccontextmanager
async def connected(url: str, key: str, mode: str = "auto") -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        streams = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(streams, mode=mode, read_timeout_seconds=30) as client:
            yield client


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """The structured answer; the SDK has checked it against the tool's schema."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    (text,) = result.content
    assert isinstance(text, mcp_types.TextContent)
    assert orjson.loads(text.text) == result.structured_content
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    (text,) = result.content
    assert isinstance(text, mcp_types.TextContent)
    return text.text


@pytest.mark.parametrize("mode", MODES)
async def test_each_tool_gives_what_its_route_gives(
    url: str, key: str, http: httpx.AsyncClient, fleet: Fleet, base: Base, mode: str
) -> None:
    called: set[str] = set()
    async with connected(url, key, mode) as client:
        listed = await client.list_tools()
        assert {tool.name for tool in listed.tools} == {tool.name for tool in TOOLS}

        async def do(tool: str, **arguments: Any) -> Any:
            called.add(tool)
            return await call(client, tool, **arguments)

        own = {name: value for name, value in MISSION.items() if name != "budget_usd"}
        made = await do(
            "submit_mission", **own, budget_usd="0.10", idempotency_key="k", more={"min_accepted": 0}
        )
        assert (
            await do(
                "submit_mission", **own, budget_usd="0.10", idempotency_key="k", more={"min_accepted": 0}
            )
        )["mission_id"] == made["mission_id"]
        mission = made["mission_id"]
        task = f"{mission}.0"
        await fleet.plan(mission)
        assert (await do("why", task_id=task))["task_id"] == task
        assert (await do("pause_mission", mission_id=mission, reason="wait"))["status"] == "PAUSED"
        assert (await do("resume_mission", mission_id=mission))["status"] == "RUNNING"
        await fleet.work()
        await fleet.judge(Decision.ESCALATE, mission)
        assert [one["task_id"] for one in (await do("list_reviews"))["items"]] == [task, f"{mission}.1"]
        assert (await do("get_review", task_id=task))["goal"] == MISSION["goal"]
        assert (await do("approve_review", task_id=task, comment="good"))["status"] == "ACCEPTED"
        assert (await do("reject_review", task_id=f"{mission}.1", comment="no"))["status"] == "READY"
        (result,) = (await do("mission_results", mission_id=mission))["items"]
        assert result["task_id"] == task
        assert (await do("cancel_mission", mission_id=mission, reason="enough"))["status"] == "CANCELLED"
        watched = await do("watch_mission", mission_id=mission)
        assert (watched["done"], watched["mission"]["status"]) == (True, "CANCELLED")
        page = await do("recorder_query", mission_id=mission, kinds=["task.approved", "mission.*"])
        kinds = [one["kind"] for one in page["items"]]
        assert kinds[0] == "mission.submitted"
        assert "task.approved" in kinds
        assert "task.claimed" not in kinds
        for tool, path in (
            ("get_mission", f"/v1/missions/{mission}"),
            ("list_missions", "/v1/missions"),
            ("spend_report", "/v1/spend/report"),
            ("governor_status", "/v1/governor"),
        ):
            arguments = {"mission_id": mission} if tool == "get_mission" else {}
            same = (await http.get(path)).json()
            found = await do(tool, **arguments)
            assert found.keys() == same.keys()
            assert tool != "get_mission" or found == same
    assert called == {tool.name for tool in TOOLS}


async def test_a_watch_tells_progress_until_the_mission_is_over(
    url: str, key: str, http: httpx.AsyncClient, fleet: Fleet
) -> None:
    mission = await submitted(http)
    told: list[tuple[float, float | None, str | None]] = []
    begun = asyncio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))
        begun.set()

    async with connected(url, key, "legacy") as client:
        watching = asyncio.create_task(
            client.call_tool("watch_mission", {"mission_id": mission}, progress_callback=note)
        )
        await begun.wait()
        await fleet.do(mission)
        result = await watching
    assert result.structured_content is not None
    assert result.structured_content["done"] is True
    assert result.structured_content["mission"]["status"] == "COMPLETED"
    assert (told[0][0], told[-1]) == (0, (2, 2, "COMPLETED: 2 of 2 accepted"))


async def test_a_watch_comes_back_when_its_time_is_up_and_gives_its_stream_back(
    app: FastAPI, url: str, key: str, http: httpx.AsyncClient
) -> None:
    mission = await submitted(http)
    async with connected(url, key) as client:
        watched = await call(client, "watch_mission", mission_id=mission, timeout_s=1)
    assert (watched["done"], watched["mission"]["mission_id"]) == (False, mission)
    assert app.state.streams.open == 0


async def test_results_come_by_the_page(url: str, key: str, http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission = await submitted(http, inputs=list("abcde"))
    await fleet.do(mission)
    async with connected(url, key) as client:
        said, after = [], ""
        while after is not None:
            page = await call(client, "mission_results", mission_id=mission, limit=2, after=after)
            said += [one["result"]["said"] for one in page["items"]]
            after = page["next"]
    assert said == list("abcde")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", ["", "chi_wrong"])
async def test_without_a_key_that_counts_nothing_is_told(url: str, key: str, mode: str) -> None:
    async with httpx.AsyncClient() as http:
        response = await http.post(
            f"{url}/mcp",
            json=MESSAGE,
            headers={**HEADERS, **({"Authorization": f"Bearer {key}"} if key else {})},
        )
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["type"] == "urn:chimera:problem:unauthorized"
    with pytest.raises(Exception):  # noqa: B017, PT011 (the SDK's own, which differs by mode)
        async with connected(url, key or "x", mode) as client:
            await client.list_tools()


async def test_a_key_is_shown_the_tools_that_its_scopes_allow_and_is_refused_the_others(
    url: str, http: httpx.AsyncClient, base: Base, tenant: str, key: str
) -> None:
    mission = await submitted(http)
    async with connected(url, await key_of(base, tenant, Scope.READ)) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {tool.name for tool in TOOLS if tool.reads}
        said = await refusal(client, "cancel_mission", mission_id=mission)
    assert "this call needs a key with the scope `submit`" in said
    async with connected(url, await key_of(base, FLEET, *ALL)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {
            "recorder_query",
            "governor_status",
        }
        page = await call(client, "recorder_query", tenant=tenant, limit=1)
        assert page["next"]
        assert "is for a tenant's key" in await refusal(client, "get_mission", mission_id=mission)


async def test_another_tenants_mission_is_none(
    url: str, http: httpx.AsyncClient, base: Base, tenant: str, key: str
) -> None:
    mission = await submitted(http)
    async with connected(url, await key_of(base, f"{tenant}-other", *ALL)) as client:
        theirs = await refusal(client, "get_mission", mission_id=mission)
        absent = await refusal(client, "get_mission", mission_id="zzz9")
        with pytest.raises(MCPError) as raised:
            await client.read_resource(f"chimera://missions/{mission}")
    assert theirs.replace(mission, "zzz9") == absent
    assert raised.value.code == mcp_types.INVALID_PARAMS


async def test_two_clients_at_once_get_what_is_theirs(
    url: str, base: Base, tenant: str, key: str, http: httpx.AsyncClient
) -> None:
    other = f"{tenant}-other"
    await base.tenants.add(other)

    async def work(key: str, mode: str) -> set[str]:
        async with connected(url, key, mode) as client:
            own = {**MISSION, "budget_usd": "0.10"}
            made = await asyncio.gather(*(call(client, "submit_mission", **own) for _ in range(5)))
            listed = await call(client, "list_missions")
            assert {one["mission_id"] for one in listed["items"]} == {one["mission_id"] for one in made}
            return {one["tenant"] for one in listed["items"]}

    try:
        theirs = await asyncio.gather(
            work(key, "legacy"), work(await key_of(base, other, *ALL), "2026-07-28")
        )
    finally:
        await base.tenants.remove(other)
    assert list(theirs) == [{tenant}, {other}]


async def test_an_answer_that_is_too_large_is_refused_with_the_next_step(
    url: str, key: str, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submitted(http)
    async with connected(url, key) as client:
        assert await call(client, "list_missions")
        mcpserver = sys.modules["chimera.serving.gateway.mcpserver"]
        monkeypatch.setattr(mcpserver, "MOST_BYTES", 500)
        said = await refusal(client, "list_missions")
    assert "the answer has more than 500 bytes: ask for less of it, with a smaller `limit`" in said


async def test_a_mission_is_a_resource(url: str, http: httpx.AsyncClient, key: str) -> None:
    mission = await submitted(http)
    async with connected(url, key) as client:
        (resource,) = (await client.list_resources()).resources
        (template,) = (await client.list_resource_templates()).resource_templates
        assert (str(resource.uri), template.uri_template) == (
            f"chimera://missions/{mission}",
            "chimera://missions/{mission_id}",
        )
        (content,) = (await client.read_resource(str(resource.uri))).contents
        with pytest.raises(MCPError, match="no mission 'nope'"):
            await client.read_resource("chimera://missions/nope")
    assert isinstance(content, mcp_types.TextResourceContents)
    assert orjson.loads(content.text) == (await http.get(f"/v1/missions/{mission}")).json()


async def test_what_is_wrong_with_arguments_is_said_and_changes_nothing(
    url: str, key: str, http: httpx.AsyncClient
) -> None:
    async with connected(url, key) as client:
        assert "mission_id: Field required" in await refusal(client, "get_mission")
        assert "missions: Extra inputs" in await refusal(client, "list_missions", missions=1)
        said = await refusal(client, "submit_mission", goal="x", inputs=["a"], budget_usd="much")
        assert "budget_usd" in said
        assert "agent: " in await refusal(client, "submit_mission", **{**MISSION, "agent": "nobody"})
        with pytest.raises(MCPError, match="there is no tool 'drop_tables'"):
            await client.call_tool("drop_tables", {})
    assert (await http.get("/v1/missions")).json()["items"] == []


async def test_a_tool_call_is_counted_by_the_tenants_rate(
    url: str, base: Base, tenant: str, key: str
) -> None:
    slow = await base.api_keys.create(tenant, uuid.uuid4().hex, by="o", scopes=ALL, requests_per_s=0.01)
    headers = {**HEADERS, "Authorization": f"Bearer {slow.key}"}
    async with httpx.AsyncClient(headers=headers) as http:
        answers = [await http.post(f"{url}/mcp", json=MESSAGE) for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 429]
    assert int(answers[1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://hub.evil.example:8000"])
async def test_pages_of_strangers_are_refused_whatever_name_they_reach_us_by(
    http: httpx.AsyncClient, origin: str
) -> None:
    headers = {**HEADERS, "Origin": origin, "Host": origin.removeprefix("http://")}
    response = await http.post("/mcp", json=MESSAGE, headers=headers)
    assert (response.status_code, response.json()["type"]) == (403, "urn:chimera:problem:forbidden")
    assert "CHIMERA_MCP_ORIGINS" in response.json()["detail"]


async def test_pages_of_our_own_and_of_those_that_are_named_may_call(http: httpx.AsyncClient) -> None:
    response = await http.post("/mcp", json=MESSAGE, headers={**HEADERS, "Origin": "http://127.0.0.1:8000"})
    assert response.status_code == 200
    named = origins(load(mcp_origins="https://Tools.example, http://x:1/", url="https://hub.example"))
    assert {"https://tools.example", "http://x:1", "https://hub.example", "http://localhost:8000"} <= named


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_only_post_is_taken(http: httpx.AsyncClient, method: str) -> None:
    response = await http.request(method, "/mcp", headers=HEADERS)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    hub: Hub, http: httpx.AsyncClient
) -> None:
    most = hub.base.settings.max_request_bytes
    headers = {**HEADERS, "Content-Length": str(most + 1)}
    response = await http.post("/mcp", content=b"{}", headers=headers)
    assert response.status_code == 413
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    assert (await http.post("/mcp", content=deep, headers=HEADERS)).status_code < 500


async def test_whatever_is_sent_no_answer_is_a_500(http: httpx.AsyncClient, hub: Hub) -> None:
    """Messages of MCP, bent by a seeded chance: other types, other methods, cut, deep, huge."""
    chance = random.Random(6)
    odd: list[Any] = [None, True, -1, 1e308, "", "x" * 5_000, "\ud800", [], {}, [[]], {"a": {"b": []}}, 2**70]
    methods = [
        "initialize",
        "tools/list",
        "tools/call",
        "resources/read",
        "resources/list",
        "ping",
        "nope",
        "",
    ]
    names = [*(tool.name for tool in TOOLS), "", "x" * 300]

    def message() -> Any:
        arguments = {
            chance.choice(
                ["mission_id", "task_id", "limit", "after", "goal", "timeout_s", "since", "x"]
            ): chance.choice([*odd, "m", "m.0", "2026-11-29T00:00:00Z", 1])
            for _ in range(chance.randrange(4))
        }
        params: dict[str, Any] = {
            "name": chance.choice(names),
            "arguments": arguments,
            "uri": "chimera://missions/m",
        }
        made: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": chance.choice(methods), "params": params}
        for holder in (made, params):
            if chance.random() < 0.2:
                holder[chance.choice(list(holder))] = chance.choice(odd)
        return chance.choice([made, made, made, made, [made], chance.choice(odd)])

    seen = set()
    for number in range(250):
        content = json.dumps(message()).encode() if chance.random() < 0.9 else b""
        if chance.random() < 0.15:
            content = content[: chance.randrange(len(content) + 1)]
        version = chance.choice([None, "2025-06-18", "2026-07-28", "1", "\x7f"])
        headers = {**HEADERS, **({"MCP-Protocol-Version": version} if version else {})}
        if chance.random() < 0.1:
            headers.pop(chance.choice(list(headers)))
        response = await http.post("/mcp", content=content, headers=headers)
        assert response.status_code < 500, (number, content[:300], response.text)
        assert b"Traceback" not in response.content
        seen.add(response.status_code)
    assert {200, 400, 422} <= seen


def test_who_never_speaks_mcp_does_not_import_it() -> None:
    """Neither does a worker's process, the orchestrator's, nor a gateway before the first request."""
    modules = (
        "chimera, chimera.serving.gateway.app, chimera.serving.replicas.orchestrator, chimera.serving.cell"
    )
    said = f"import sys, {modules}\nsys.exit('mcp' in sys.modules or 'mcp_types' in sys.modules)"
    subprocess.run([sys.executable, "-c", said], check=True)
