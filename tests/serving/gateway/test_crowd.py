"""Too much at once, and what comes too slowly: refused, while probes are answered and streams go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from chimera.client import Client
from chimera.errors import HubBusy
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, auth, create_app, lines
from chimera.serving.gateway.app import PROBES
from chimera.serving.gateway.crowd import Crowd, Visit
from tests.keys import key_of
from tests.serving.gateway.conftest import MISSION, port, serve

__all__ = ["port"]

SPEC = {name: value for name, value in MISSION.items() if name != "inputs"}


class Sender:
    """A request that is sent by hand, in chunks, over a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, part: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(part), part))

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and document, once the hub answers."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        document = json.loads(await self._reader.readexactly(int(headers["content-length"])))
        return int(head[0].split()[1]), headers, document

    async def end(self) -> None:
        """The hub has closed the connection: at once where more was under way to it than it read."""
        with suppress(ConnectionResetError):
            assert await self._reader.read() == b""


@asynccontextmanager
async def sending(url: str, key: str, content_type: str = "application/json") -> AsyncIterator[Sender]:
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    head = (
        f"POST /v1/missions HTTP/1.1\r\nHost: hub\r\nContent-Type: {content_type}\r\n"
        f"Authorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    writer.write(head.encode())
    try:
        yield Sender(reader, writer)
    finally:
        writer.close()


async def crowded(http: httpx.AsyncClient) -> httpx.Response:
    """The first answer that is a refusal: those before it are on their way in."""
    async with asyncio.timeout(20):
        while (response := await http.get("/v1/spend")).status_code == 200:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.01)
    return response


@asynccontextmanager
async def gateway(base: Base, key: str, listener: Any, **limits: Any) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        serve(create_app(Hub(base, **limits)), listener) as url,
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as http,
    ):
        yield http


async def test_one_request_too_many_is_refused_and_probes_are_answered(
    base: Base, key: str, port: Any
) -> None:
    with capture_logs() as logs:
        async with gateway(base, key, port, max_requests=2) as http:
            url = str(http.base_url)
            async with sending(url, key) as first, sending(url, key) as second:
                refused = await crowded(http)
                assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
                assert refused.json()["type"] == "urn:chimera:problem:hub-busy"
                assert refused.json()["request_id"] == refused.headers["X-Request-Id"]
                for path in sorted(PROBES):
                    assert (await http.get(path)).headers["content-type"] != "application/problem+json"
                body = json.dumps(MISSION).encode()
                for sender in (first, second):
                    sender.send(body)
                    sender.send(b"")
                    assert (await sender.answer())[0] == 201
            assert (await http.get("/v1/spend")).status_code == 200, "and places come free"
    assert len([line for line in logs if line["event"] == "http.crowded"]) == 1


async def test_a_tenant_that_has_its_share_under_way_keeps_no_other_out(
    base: Base, tenant: str, key: str, port: Any
) -> None:
    other = {"Authorization": f"Bearer {await key_of(base, f'{tenant}-x')}"}
    async with gateway(base, key, port, max_requests=3, max_tenant_requests=1) as http:
        async with sending(str(http.base_url), key):
            refused = await crowded(http)
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
            assert "1 requests under way" in refused.json()["detail"]
            for _ in range(3):
                assert (await http.get("/v1/spend", headers=other)).status_code == 200
        async with asyncio.timeout(20):  # the one that left
            while (await http.get("/v1/spend")).status_code != 200:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
async def test_a_request_counts_for_each_mib_of_it_that_is_in_memory(
    content_type: str, base: Base, tenant: str, key: str, port: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, hold = asyncio.Event(), Crowd.hold

    def noted(crowd: Crowd, visit: Visit, size: int) -> None:
        hold(crowd, visit, size)
        if visit.places == 3:
            held.set()

    monkeypatch.setattr(Crowd, "hold", noted)
    other = {"Authorization": f"Bearer {await key_of(base, f'{tenant}-x')}"}
    async with gateway(base, key, port, max_requests=5, max_tenant_requests=3) as http:
        async with sending(str(http.base_url), key, content_type) as large:
            large.send(b'{"goal": "' + b"x" * (2 << 20))  # three places
            async with asyncio.timeout(20):
                await held.wait()
            refused = await http.get("/v1/spend")
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
            assert (await http.get("/v1/spend", headers=other)).status_code == 200
            large.send(b"x" * (1 << 20))  # a fourth
            status, _, problem = await large.answer()
            assert (status, problem["type"]) == (429, "urn:chimera:problem:rate-limited")
            assert "a large one counts for each MiB of it" in problem["detail"]
        async with asyncio.timeout(20):
            while (await http.get("/v1/spend")).status_code != 200:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.01)
        assert (await http.get("/v1/spend", headers=other)).status_code == 200
    assert await base.of(tenant).missions.list_ids() == []


async def test_all_places_come_free_again_also_those_of_large_requests(
    base: Base, key: str, port: Any
) -> None:
    body = json.dumps({**MISSION, "inputs": ["x" * 200_000] * 12}).encode()
    async with gateway(base, key, port, max_requests=3, max_tenant_requests=3) as http:
        for _ in range(3):
            answer = await http.post(
                "/v1/missions", content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 201
            assert (await http.get("/v1/spend")).status_code == 200


async def test_a_stream_has_its_place_to_its_end(base: Base, key: str, port: Any) -> None:
    async with gateway(base, key, port, max_requests=1) as http:
        mission_id = (await http.post("/v1/missions", json=MISSION)).json()["mission_id"]
        async with http.stream("GET", f"/v1/missions/{mission_id}/watch") as stream:
            assert stream.status_code == 200
            assert (await http.get("/v1/spend")).status_code == 503
        async with asyncio.timeout(20):
            while (await http.get("/v1/spend")).status_code != 200:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.01)


async def test_the_client_comes_back_to_a_hub_that_was_busy(base: Base, key: str, port: Any) -> None:
    async with gateway(base, key, port, max_requests=1) as http:
        url = str(http.base_url)
        async with sending(url, key) as sender:
            await crowded(http)
            async with Client(url, key, retries=0) as hasty:
                with pytest.raises(HubBusy, match="answers 1 requests at once"):
                    await hasty.spend()
            async with Client(url, key) as client:
                asking = asyncio.create_task(client.spend())
                sender.send(json.dumps(MISSION).encode())
                sender.send(b"")
                assert (await sender.answer())[0] == 201
                await asking


@pytest.mark.parametrize("trickles", [True, False])
async def test_a_document_that_does_not_come_in_time_is_408(
    trickles: bool, url: str, key: str, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "BODY_S", 0.3)
    async with asyncio.timeout(20), sending(url, key) as sender:
        sender.send(b'{"goal": "')
        answer = asyncio.create_task(sender.answer())
        while trickles and not answer.done():
            sender.send(b"x")
            await asyncio.sleep(0.02)
        status, headers, problem = await answer
        assert (status, headers["connection"]) == (408, "close")
        assert problem["type"] == "urn:chimera:problem:request-timeout"
        assert "nothing was changed" in problem["detail"]
        await sender.end()
    assert await base.of(tenant).missions.list_ids() == []


async def test_lines_may_come_for_longer_than_a_document_as_long_as_something_comes(
    url: str, key: str, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "BODY_S", 0.1)
    async with asyncio.timeout(20), sending(url, key, "application/x-ndjson") as sender:
        sender.send(json.dumps(SPEC).encode() + b"\n")
        for number in range(10):
            await asyncio.sleep(0.05)
            sender.send(b"%d\n" % number)
        sender.send(b"")
        status, _, mission = await sender.answer()
        assert (status, mission["total_tasks"]) == (201, 10)


async def test_lines_that_fall_silent_are_408_and_nothing_is_submitted(
    url: str, key: str, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "SILENCE_S", 0.3)
    async with asyncio.timeout(20), sending(url, key, "application/x-ndjson") as sender:
        sender.send(json.dumps(SPEC).encode() + b"\n1\n")
        status, headers, problem = await sender.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert "nothing of the request came for 0.3 s" in problem["detail"]
    assert await base.of(tenant).missions.list_ids() == []
