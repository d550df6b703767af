from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app
from tests.keys import key_of
from tests.serving.gateway.conftest import MISSION, submitted


def v1_calls(app: FastAPI) -> list[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return [
        (method.upper(), path.replace("{mission_id}", "m").replace("{task_id}", "m.0"))
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/v1")
    ]


async def test_every_v1_call_needs_a_key_and_says_the_same_without_and_with_a_wrong_one(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    calls = v1_calls(app)
    assert len(calls) >= 17
    for method, path in calls:
        seen = set()
        for header in ("", "Bearer wrong", "Basic abc", "Bearer"):
            response = await http.request(
                method, path, headers={"Authorization": header, "X-Request-Id": "r"}
            )
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert "CHIMERA_API_KEY" in response.json()["detail"]
            seen.add(response.text)
        assert len(seen) == 1


async def test_the_openapi_document_says_that_a_key_is_needed(app: FastAPI) -> None:
    document = app.openapi()
    assert document["paths"]["/v1/missions"]["post"]["security"] == [{"HTTPBearer": []}]
    body = document["paths"]["/v1/missions"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/MissionSpec"}


async def test_another_tenants_ids_look_like_none(
    app: FastAPI, http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    mission_id = await submitted(http)
    other = await key_of(base, f"{tenant}-other")
    foreign = {"Authorization": f"Bearer {other}"}
    for method, path in v1_calls(app):
        if "m" not in path.split("/"):
            continue
        real = "/".join(mission_id if part == "m" else part for part in path.split("/"))
        body: Any = {"goal": "x"} if method == "PATCH" else None
        if path.endswith("/redrive"):
            body = {"tasks": ["m.0"]}
        if path.endswith("/retry"):
            body = {"actions": ["m.0/0"]}
        answers = [
            await http.request(method, at, json=body, headers={**foreign, "X-Request-Id": "r"})
            for at in (real, path)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["detail"].replace(mission_id, "m") == answers[1].json()["detail"]
    assert (await http.get("/v1/missions", headers=foreign)).json()["items"] == []


async def test_a_stranger_cannot_make_us_read_a_body(http: httpx.AsyncClient) -> None:
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x" * 100

    response = await http.post("/v1/missions", content=body(), headers={"Authorization": "Bearer wrong"})
    assert response.status_code == 401
    assert read == []


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused_before_it_is_read_whole(
    base: Base, key: str, declared: bool
) -> None:
    small = replace(base, settings=base.settings.model_copy(update={"max_request_bytes": 2_000}))
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1_000
            yield b" " * 1_000

    app = create_app(Hub(small))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    if declared:
        headers["Content-Length"] = "100000"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as http:
        response = await http.post("/v1/missions", content=body(), headers=headers)
        assert response.status_code == 413
        assert response.json()["setting"] == "CHIMERA_MAX_REQUEST_BYTES"
        assert read <= 4_000
        fits = await http.post("/v1/missions", json=MISSION, headers=headers | {"Content-Length": "200"})
        assert fits.status_code == 201


async def test_a_request_id_is_echoed_and_a_strange_one_replaced(http: httpx.AsyncClient) -> None:
    given = await http.get("/v1/spend", headers={"X-Request-Id": "abc-1"})
    assert given.headers["X-Request-Id"] == "abc-1"
    strange = await http.get("/v1/missions/nope", headers={"X-Request-Id": "a b\tc"})
    assert len(strange.headers["X-Request-Id"]) == 32
    assert strange.json()["request_id"] == strange.headers["X-Request-Id"]
