from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import chimera.client.connection
from chimera.client import Client
from chimera.core.action import ActionStatus
from chimera.core.mission import MissionSpec, MissionStatus
from chimera.core.task import TaskStatus
from chimera.core.verdict import Decision
from chimera.errors import (
    BackendError,
    ConfigurationError,
    Conflict,
    FleetUnavailable,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    StoreUnavailable,
    Unauthorized,
)
from tests.serving.gateway.conftest import (
    MISSION,
    Fleet,
    app,
    base,
    fleet,
    hub,
    key,
    port,
    redis_server,
    serve,
    settings,
    tcp_socket,
    tenant,
    url,
)
from tests.store import drive

__all__ = ["app", "base", "fleet", "hub", "key", "port", "redis_server", "settings", "tenant", "url"]

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
async def client(url: str, key: str) -> AsyncIterator[Client]:
    async with Client(url, key) as opened:
        yield opened


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(chimera.client.connection, "_backoff_s", lambda attempt: 0.0)


def against(handler: Handler) -> Client:
    """A client of a hub that answers as told."""
    return Client("http://hub:1", "chi_k", transport=httpx.MockTransport(handler))


def problem(status: int, kind: str, **fields: Any) -> httpx.Response:
    body = {"type": f"urn:chimera:problem:{kind}", "title": "t", "status": status, "detail": "d", **fields}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


async def test_a_mission_from_submit_to_its_results(client: Client, fleet: Fleet) -> None:
    mission = await client.submit(MISSION)
    assert mission.status is MissionStatus.RUNNING
    await fleet.do(mission.mission_id)
    seen = [one async for one in client.watch(mission.mission_id)]
    assert seen[-1].status is MissionStatus.COMPLETED
    assert (seen[-1].accepted, seen[-1].left, seen[-1].final) == (2, 0, True)
    results = [result async for result in client.results(mission.mission_id)]
    assert [result.result for result in results] == [{"said": "a"}, {"said": "b"}]
    assert (await client.wait(mission.mission_id)).status is MissionStatus.COMPLETED


async def test_a_typed_spec_arrives_as_it_was_meant(client: Client) -> None:
    spec = MissionSpec.model_validate(
        {**MISSION, "judge": [{"policy": "schema", "schema": {"type": "object"}}], "priority": "high"}
    )
    mission = await client.submit(spec)
    assert (mission.agent, mission.priority, mission.budget_microusd) == ("echo", "high", 100_000)


async def test_watch_ends_when_the_mission_waits_for_a_human_unless_told_to_go_on(
    client: Client, fleet: Fleet
) -> None:
    mission_id = (await client.submit(MISSION)).mission_id
    await fleet.do(mission_id, Decision.ESCALATE)
    waiting = await client.wait(mission_id)
    assert waiting.status is MissionStatus.WAITING_REVIEW
    async with asyncio.timeout(10):
        async for mission in client.watch(mission_id, through_review=True):
            if mission.status is MissionStatus.WAITING_REVIEW:
                for review in await client.reviews():
                    await client.approve(review.task_id, "fine")
                await fleet.settle(mission_id)
    assert mission.status is MissionStatus.COMPLETED


async def test_reviews_are_shown_approved_and_rejected(client: Client, fleet: Fleet) -> None:
    mission_id = (await client.submit(MISSION)).mission_id
    await fleet.do(mission_id, Decision.ESCALATE)
    first, second = await client.reviews()
    assert await client.review(first.task_id) == first
    assert (await client.approve(first.task_id)).status is TaskStatus.ACCEPTED
    assert (await client.reject(second.task_id, "shorter")).context.feedback == ("shorter",)
    with pytest.raises(Conflict, match="does not wait for a human"):
        await client.approve(first.task_id)


async def test_actions_are_listed_and_retried(client: Client, fleet: Fleet) -> None:
    mission = await client.submit({**MISSION, "inputs": ["a"]})
    await fleet.do(mission.mission_id, actions=(drive.HOOK.model_dump_json(),))
    (queued,) = await client.actions(mission.mission_id)
    assert (queued.status, queued.action["url"]) == (ActionStatus.QUEUED, drive.HOOK.url)
    (one,) = await drive.errands(fleet.stores)
    await drive.report(fleet.stores, one, "failed")
    assert (await client.mission(mission.mission_id)).actions[ActionStatus.FAILED] == 1
    assert await client.actions(mission.mission_id, status=ActionStatus.DONE) == []
    (failed,) = (await client.task(queued.task_id)).actions
    done = await client.retry_actions(mission.mission_id, [failed.action_id])
    assert (done.retried, done.mission.actions[ActionStatus.QUEUED]) == (1, 1)


async def test_the_rest_of_the_api_is_there(client: Client, tenant: str) -> None:
    mission_id = (await client.submit(MISSION)).mission_id
    assert (await client.edit(mission_id, goal="New.")).state_version == 2
    assert [one.mission_id for one in await client.missions()] == [mission_id]
    assert [agent.name for agent in await client.agents()] == ["echo", "llm"]
    assert (await client.spend()).tenant == (await client.fleet()).tenant == tenant
    assert (await client.freeze("we look")).state == "frozen"
    assert (await client.governor()).reason == "we look"
    assert (await client.thaw("seen to")).state == "open"
    assert (await client.override(5, "launch")).override_until is not None
    assert (await client.ready()).ready
    assert (await client.version()).api == "v1"
    assert (await client.cancel(mission_id, "enough")).reason == "enough"


async def test_lists_go_on_over_pages_up_to_their_limit(client: Client, fleet: Fleet) -> None:
    mission_id = (await client.submit({**MISSION, "inputs": list(range(230))})).mission_id
    await fleet.plan(mission_id)
    tasks = await client.tasks(mission_id, limit=1_000)
    assert [task.context.input for task in tasks] == list(range(230))
    assert len(await client.tasks(mission_id, limit=150)) == 150
    assert await client.tasks(mission_id, status=TaskStatus.FAILED) == []
    assert (await client.task(tasks[7].task_id)).context.input == 7


async def test_events_are_read_and_resumed(client: Client, fleet: Fleet) -> None:
    mission_id = (await client.submit(MISSION)).mission_id
    await fleet.do(mission_id)
    whole = [entry async for entry in client.events(mission_id)]
    assert whole[0][1].kind == "mission.submitted"
    assert [entry async for entry in client.events(mission_id, after=whole[2][0], follow=False)] == whole[3:]


async def test_errors_arrive_as_they_left(client: Client, url: str) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        await client.submit({**MISSION, "budget_usd": 0})
    assert invalid.value.problems == ("budget_usd: Input should be greater than 0 (it is 0)",)
    with pytest.raises(PayloadTooLarge) as large:
        await client.submit({**MISSION, "inputs": ["x" * 300_000]})
    assert (large.value.what, large.value.setting) == ("inputs[0]", "CHIMERA_MAX_INPUT_BYTES")
    with pytest.raises(NotFound, match="nope"):
        await client.mission("nope")
    for stream in (client.watch("nope"), client.events("nope"), client.results("nope")):
        with pytest.raises(NotFound, match="nope"):
            await anext(stream)
    async with Client(url, "wrong") as stranger:
        with pytest.raises(Unauthorized, match="CHIMERA_API_KEY"):
            await stranger.spend()
    with pytest.raises(InvalidRequest, match="id is missing"):
        await client.mission("")


async def test_an_id_stays_one_part_of_the_path(client: Client) -> None:
    with pytest.raises(NotFound):
        await client.mission("../agents")


async def test_text_with_line_separators_of_unicode_comes_through_in_results(
    client: Client, fleet: Fleet
) -> None:
    texts = ["a\u2028b", "\x85\u2029\x0b\x1c", "c\r\nd", "é" * 100_000]
    mission = await client.submit({**MISSION, "inputs": texts})
    await fleet.do(mission.mission_id)
    results = [result.result async for result in client.results(mission.mission_id)]
    assert results == [{"said": text} for text in texts]


@pytest.mark.usefixtures("quick")
async def test_no_hub_names_the_address_and_the_next_step() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with Client(address, "k") as client:
            for call in (
                client.spend(),
                client.ready(),
                anext(client.watch("m")),
                anext(client.results("m")),
            ):
                with pytest.raises(FleetUnavailable, match=rf"{address} .*`chimera up`.*CHIMERA_URL"):
                    await call


@pytest.mark.usefixtures("quick")
async def test_a_503_and_a_broken_connection_are_tried_again_under_one_operation() -> None:
    keys: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadError("reset", request=request)
        if len(keys) == 2:
            return problem(503, "store-unavailable")
        return problem(409, "conflict")

    with pytest.raises(Conflict):
        await against(handler).submit(MISSION)
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.usefixtures("quick")
async def test_tries_are_bounded() -> None:
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return problem(503, "store-unavailable")

    with pytest.raises(StoreUnavailable, match="d"):
        await against(handler).spend()
    assert len(calls) == 4


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [200, 404, 502])
async def test_an_answer_of_something_else_is_no_chimera_error_of_ours(status: int) -> None:
    client = against(lambda request: httpx.Response(status, text="<html>hello</html>"))
    with pytest.raises(BackendError, match=r"another version|something else"):
        await client.spend()


@pytest.mark.usefixtures("quick")
async def test_a_watch_that_was_cut_goes_on(client: Client, url: str, key: str, fleet: Fleet) -> None:
    mission_id = (await client.submit(MISSION)).mission_id
    cuts = 0

    class Cut(httpx.AsyncByteStream):
        def __init__(self, whole: httpx.AsyncByteStream) -> None:
            self.whole = whole

        async def __aiter__(self) -> AsyncIterator[bytes]:
            text = b""
            async for chunk in self.whole:
                text += chunk
                yield chunk
                if b"\n\n" in text:
                    break
            if cuts == 1:
                raise httpx.ReadError("cut")
            await fleet.do(mission_id)

        async def aclose(self) -> None:
            await self.whole.aclose()

    class Cutting(httpx.AsyncHTTPTransport):
        """A network that ends the first stream badly and the second neatly, after one event each."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal cuts
            response = await super().handle_async_request(request)
            if request.url.path.endswith("/watch") and cuts < 2:
                cuts += 1
                assert isinstance(response.stream, httpx.AsyncByteStream)
                response.stream = Cut(response.stream)
            return response

    async with Client(url, key, transport=Cutting()) as shaky, asyncio.timeout(10):
        seen = [mission async for mission in shaky.watch(mission_id)]
    assert cuts == 2
    assert seen[-1].status is MissionStatus.COMPLETED


@pytest.mark.usefixtures("quick")
async def test_events_survive_a_hub_that_restarts(app: FastAPI, key: str, fleet: Fleet, base: Any) -> None:
    with tcp_socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with Client(address, key) as client, asyncio.timeout(20):
            kinds: list[str] = []
            async with serve(app, listener.dup()):
                mission_id = (await client.submit(MISSION)).mission_id
                stream = client.events(mission_id)
                kinds.append((await anext(stream))[1].kind)
            await fleet.do(mission_id)
            async with serve(app, listener.dup()):
                kinds += [event.kind async for _, event in stream]
    assert kinds.count("mission.submitted") == 1
    assert kinds[-1] == "mission.completed"


async def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_URL", "http://elsewhere:9/")
    monkeypatch.setenv("CHIMERA_API_KEY", "chi_secret")
    async with Client() as client:
        assert client.url == "http://elsewhere:9"
        assert client._hub.http.headers["Authorization"] == "Bearer chi_secret"


async def test_without_an_address_the_local_fleets_port_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHIMERA_URL", raising=False)
    monkeypatch.setenv("CHIMERA_HTTP_PORT", "8077")
    async with Client() as client:
        assert client.url == "http://127.0.0.1:8077"


@pytest.mark.parametrize("url", ["notaurl", "127.0.0.1:8000", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="http://HOST:PORT"):
        Client(url, "k")
