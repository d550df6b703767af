"""Each route names the scope it needs, and a key without it is let through by none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from chimera.core.scope import ALL, FLEET, Scope
from chimera.errors import ConfigurationError
from chimera.runtime.base import Base
from chimera.serving.gateway.app import PROBES
from chimera.serving.gateway.auth import FOR, NEEDS, Guarded
from tests.keys import key_of


def routes(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and what it says of itself, of every route but the probes."""
    return [
        (method.upper(), path, operation)
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        if path not in PROBES
    ]


QUESTIONS = {"/v1/missions/estimate"}
"""Asked by POST for their size: they change nothing."""


def filled(path: str) -> str:
    return path.replace("{mission_id}", "m").replace("{task_id}", "m.0").replace("{name}", "nobody")


def test_every_route_names_its_scope_and_whose_keys_it_is_for(app: FastAPI) -> None:
    assert len(routes(app)) >= 20
    for method, path, operation in routes(app):
        assert operation.get(NEEDS) in set(Scope), f"{method} {path}"
        assert operation.get(FOR) in {"tenant", "fleet", "both"}, f"{method} {path}"
        if method == "GET" or path in QUESTIONS:
            assert operation[NEEDS] in {Scope.READ, Scope.ADMIN}, f"{method} {path}"
        else:
            assert operation[NEEDS] != Scope.READ, f"{method} {path}"


def test_a_route_that_names_no_scope_cannot_be_made() -> None:
    router = APIRouter(route_class=Guarded)
    with pytest.raises(ConfigurationError, match="names no scope"):

        @router.get("/v1/open")
        async def everybody() -> None:
            """Nobody's."""


async def test_a_key_without_the_scope_is_refused_before_the_body_is_read(
    app: FastAPI, http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"{}"

    for method, path, operation in routes(app):
        scope, owner = Scope(operation[NEEDS]), tenant if operation[FOR] != "fleet" else FLEET
        key = await key_of(base, owner, *(ALL - {scope}))
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        response = await http.request(method, filled(path), content=body(), headers=headers)
        assert response.status_code == 403, f"{method} {path}: {response.text}"
        assert f"the scope `{scope}`" in response.json()["detail"]
        whose = "--fleet" if owner == FLEET else f"--tenant {tenant}"
        assert f"`chimera key create {whose} --scopes {scope}`" in response.json()["detail"]
    assert read == []


async def test_a_key_of_the_fleet_is_no_tenants(app: FastAPI, http: httpx.AsyncClient, base: Base) -> None:
    headers = {"Authorization": f"Bearer {await key_of(base, FLEET, *ALL)}"}
    for method, path, operation in routes(app):
        if operation[FOR] == "tenant":
            response = await http.request(method, filled(path), headers=headers)
            assert response.status_code == 403, f"{method} {path}"
            assert "the whole fleet's" in response.json()["detail"]


async def test_one_scope_is_enough_for_what_needs_it(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    headers = {"Authorization": f"Bearer {await key_of(base, tenant, Scope.READ)}"}
    assert (await http.get("/v1/missions", headers=headers)).status_code == 200
