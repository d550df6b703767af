"""The store answers, but cannot serve: callers hear so at once, and when to come back."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chimera.core.plan import SMALL_TASKS
from chimera.runtime.base import open_base
from chimera.serving.gateway import Hub, create_app
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from tests import troubles
from tests.keys import key_of
from tests.relay import Relay
from tests.serving.gateway.conftest import AGENTS, MISSION, serve

KEYED = {"Idempotency-Key": "k"}


@pytest.fixture
def hurt(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", fsync="no", directives=troubles.DIRECTIVES) as server:
        yield server


@pytest.fixture
async def relay(hurt: RedisServer) -> AsyncIterator[Relay]:
    async with Relay(hurt.port) as between:
        yield between


@pytest.fixture
async def http(
    hurt: RedisServer, relay: Relay, tmp_path: Path, port: socket.socket
) -> AsyncIterator[httpx.AsyncClient]:
    url = hurt.url.replace(f":{hurt.port}/", f":{relay.port}/")
    base = await open_base(load(redis_url=url, state_dir=tmp_path))
    await base.tenants.add("acme")
    await base.catalogue.publish(AGENTS)
    headers = {"Authorization": f"Bearer {await key_of(base, 'acme')}"}
    async with (
        serve(create_app(Hub(base)), port) as address,
        httpx.AsyncClient(base_url=address, headers=headers, timeout=30) as client,
    ):
        yield client
    await base.close()


STORED = {**MISSION, "inputs": ["x"] * (SMALL_TASKS + 1)}
"""A mission whose inputs go to the blob store."""


async def submit(http: httpx.AsyncClient, mission: Any = MISSION) -> httpx.Response:
    return await http.post("/v1/missions", json=mission, headers=KEYED)


async def count(http: httpx.AsyncClient) -> int:
    return len((await http.get("/v1/missions")).json()["items"])


@pytest.mark.parametrize("code", troubles.AWAY)
async def test_a_submit_to_a_store_that_cannot_write_is_503_with_the_time_to_come_back(
    code: str, http: httpx.AsyncClient, hurt: RedisServer
) -> None:
    async with troubles.AWAY[code](hurt):
        response = await submit(http)
        assert response.status_code == 503
        assert response.json()["type"] == "urn:chimera:problem:store-unavailable"
        assert "cannot be used now" in response.json()["detail"]
        assert response.headers["Retry-After"] == "2"
    assert (await submit(http)).status_code == 201
    assert await count(http) == 1


@pytest.mark.parametrize("known", [True, False], ids=["refused at the door", "refused by the script"])
@pytest.mark.parametrize("mission", [MISSION, STORED], ids=["small", "larger"])
async def test_a_submit_to_a_full_store_leaves_nothing_behind(
    mission: Any, known: bool, http: httpx.AsyncClient, hurt: RedisServer, tmp_path: Path
) -> None:
    if not known:
        await http.get("/readyz")  # the gateway has just seen that there is room
    async with troubles.full(hurt):
        response = await submit(http, mission)
        assert response.status_code == 503
        assert response.json()["type"] == "urn:chimera:problem:queue-full"
        assert response.headers["Retry-After"] == "5"
        left = [file for _, _, found in os.walk(tmp_path / "blobs") for file in found]
        assert left == [], "no inputs of a mission that is none"
        assert (await http.get("/v1/missions")).status_code == 200
        assert (await http.get("/v1/spend")).status_code == 200


async def test_a_human_may_answer_and_end_missions_while_the_store_is_full(
    http: httpx.AsyncClient, hurt: RedisServer
) -> None:
    mission_id = (await submit(http, STORED)).json()["mission_id"]
    async with troubles.full(hurt):
        assert (await http.post(f"/v1/missions/{mission_id}/pause")).json()["status"] == "PAUSED"
        assert (await http.post(f"/v1/missions/{mission_id}/resume")).json()["status"] == "PLANNING"
        edited = await http.patch(f"/v1/missions/{mission_id}", json={"goal": "Other."})
        assert (edited.status_code, edited.headers["Retry-After"]) == (503, "5")
        assert (await http.post(f"/v1/missions/{mission_id}/cancel")).json()["status"] == "CANCELLED"


async def test_a_slow_store_is_waited_for_and_one_that_is_too_slow_is_503(
    http: httpx.AsyncClient, relay: Relay
) -> None:
    assert await count(http) == 0  # connected
    relay.delay_s = (0.1, 0.4)
    assert (await submit(http)).status_code == 201
    relay.delay_s = (1.5, 1.5)
    response = await submit(http)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert response.json()["type"] == "urn:chimera:problem:store-timeout"
    relay.delay_s = (0.0, 0.0)
    assert (await submit(http)).status_code == 200, "the same key, the same mission"
    assert await count(http) == 1
