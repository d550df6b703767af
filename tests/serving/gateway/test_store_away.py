"""The store stalls or is gone: callers hear so soon, and all works again when it is back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from chimera.runtime.base import open_base
from chimera.serving.gateway import Hub, create_app
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from tests.keys import key_of
from tests.serving.gateway.conftest import AGENTS, MISSION, serve, submitted

SOON_S = 5.0
"""A caller waits no longer: twice what a gateway waits, and no longer than the driver would."""
CALLS = [
    ("POST", "/v1/missions"),
    ("GET", "/v1/missions"),
    ("GET", "/v1/missions/m/watch"),
    ("GET", "/v1/tasks/m.0"),
    ("GET", "/v1/reviews"),
    ("GET", "/v1/spend"),
    ("GET", "/v1/fleet"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own, to be hurt."""
    with RedisServer(tmp_path / "redis", fsync="always") as own:
        yield own


@pytest.fixture
async def own(server: RedisServer, tmp_path: Path, port: socket.socket) -> AsyncIterator[httpx.AsyncClient]:
    base = await open_base(load(redis_url=server.url, state_dir=tmp_path))
    await base.tenants.add("acme")
    await base.catalogue.publish(AGENTS)
    headers = {"Authorization": f"Bearer {await key_of(base, 'acme')}"}
    async with (
        serve(create_app(Hub(base)), port) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=SOON_S) as client,
    ):
        yield client
    await base.close()


async def test_a_store_that_is_gone_is_503_at_once_and_nothing_is_lost(
    own: httpx.AsyncClient, server: RedisServer
) -> None:
    before = (await own.post("/v1/missions", json=MISSION)).json()["mission_id"]
    server.kill()
    for method, path in CALLS:
        response = await own.request(method, path, json=MISSION if method == "POST" else None)
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "2"
        assert "CHIMERA_REDIS_URL" in response.json()["detail"]
    assert (await own.get("/readyz")).json()["parts"]["redis"]["ok"] is False
    assert (await own.get("/healthz")).status_code == 200
    server.start()
    assert [one["mission_id"] for one in (await own.get("/v1/missions")).json()["items"]] == [before]


async def test_a_store_that_never_answers_is_503_soon(own: httpx.AsyncClient, server: RedisServer) -> None:
    assert (await own.get("/v1/missions")).status_code == 200
    server.pause()
    try:
        response = await own.post("/v1/missions", json=MISSION, headers={"Idempotency-Key": "k"})
    finally:
        server.resume()
    assert response.status_code == 503
    assert response.json()["type"] == "urn:chimera:problem:store-timeout"
    assert "Idempotency-Key" in response.json()["detail"]
    # The connection that was given up does not answer the next call with the last one's reply.
    again = await own.post("/v1/missions", json=MISSION, headers={"Idempotency-Key": "k"})
    assert again.status_code in {200, 201}
    assert len((await own.get("/v1/missions")).json()["items"]) == 1


async def test_a_stream_whose_store_is_gone_ends_without_saying_so(
    own: httpx.AsyncClient, server: RedisServer
) -> None:
    path = f"/v1/missions/{await submitted(own)}/watch"
    async with asyncio.timeout(10), own.stream("GET", path) as response:
        lines = response.aiter_lines()
        while not (await anext(lines)).startswith("data:"):
            pass
        server.kill()
        assert "event: end" not in [line async for line in lines]
    server.start()
    async with asyncio.timeout(10), own.stream("GET", path) as response:
        assert response.status_code == 200
        assert "retry: 1000" in await anext(response.aiter_lines())
