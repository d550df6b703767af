"""Every route is tried with each kind of key that may not: 401, 403 or 404 as fits; nothing is given away."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chimera.core.scope import ALL, FLEET, Scope
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app
from chimera.serving.gateway.auth import FOR, NEEDS
from tests.keys import key_of
from tests.serving.gateway.conftest import Fleet, submitted
from tests.serving.gateway.test_scopes import filled, routes
from tests.store.test_apikeys import end_key

BODIES: dict[str, Any] = {
    "PATCH /v1/missions/{mission_id}": {"goal": "x"},
    "POST /v1/missions/{mission_id}/redrive": {"tasks": ["m.0"]},
    "POST /v1/missions/{mission_id}/actions/retry": {"actions": ["m.0/0"]},
}
"""What a route asks for before it looks for the object."""

MALFORMED = ("", "Bearer", "Bearer ", "Basic abc", "bearer:chi_x", "Bearer\tchi_x", "Bearer " + "x" * 5_000)


def every(app: FastAPI, of: Callable[[dict[str, Any]], bool] = lambda _: True) -> Iterator[tuple[str, str]]:
    for method, path, operation in routes(app):
        if of(operation):
            yield method, filled(path)


async def refused_by_all(
    app: FastAPI, http: httpx.AsyncClient, authorization: str | None, status: int = 401
) -> set[str]:
    """The problem documents of all routes, less their ids: all have this status."""
    said = set()
    headers = {"X-Request-Id": "r"} | ({} if authorization is None else {"Authorization": authorization})
    del http.headers["Authorization"]
    for method, path in every(app):
        response = await http.request(method, path, headers=headers)
        assert response.status_code == status, f"{method} {path}: {response.text}"
        assert response.headers["content-type"] == "application/problem+json"
        document = response.json()
        document.pop("error", None)  # OpenAI's words for the same, where its clients call
        said.add(json.dumps(document))
    return said


async def test_without_a_key_every_route_says_the_same_401(app: FastAPI, http: httpx.AsyncClient) -> None:
    assert len(await refused_by_all(app, http, None)) == 1


@pytest.mark.parametrize("header", [*MALFORMED, "Bearer chi_wrong"])
async def test_a_wrong_or_malformed_key_is_told_from_a_missing_one_by_no_route(
    app: FastAPI, http: httpx.AsyncClient, header: str
) -> None:
    (without,) = await refused_by_all(app, http, "")
    http.headers["Authorization"] = ""
    assert await refused_by_all(app, http, header) == {without}


async def test_a_revoked_key_is_as_one_that_never_was(
    app: FastAPI, http: httpx.AsyncClient, hub: Hub, tenant: str
) -> None:
    made = await hub.base.api_keys.create(tenant, uuid.uuid4().hex, by="o", scopes=ALL)
    assert (await http.get("/v1/spend", headers={"Authorization": f"Bearer {made.key}"})).status_code == 200
    await hub.base.api_keys.revoke(tenant, made.record.key_id, uuid.uuid4().hex, by="o")
    (revoked,) = await refused_by_all(app, http, f"Bearer {made.key}")
    http.headers["Authorization"] = ""
    assert await refused_by_all(app, http, "Bearer wrong") == {revoked}


async def test_a_key_that_has_ended_is_told_so_by_every_route(
    app: FastAPI, http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    made = await base.api_keys.create(tenant, uuid.uuid4().hex, by="o", scopes=ALL)
    await end_key(base, made.key)
    (said,) = await refused_by_all(app, http, f"Bearer {made.key}")
    assert f"key {made.record.key_id} has ended" in said


async def test_a_suspended_tenants_keys_read_and_do_nothing_else(
    app: FastAPI, http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await base.tenants.suspend(tenant, "a", by="o", reason="unpaid")
    headers = {"Authorization": f"Bearer {await key_of(base, tenant, *ALL)}"}
    for method, path, operation in routes(app):
        if operation[FOR] == "fleet":
            continue
        response = await http.request(method, filled(path), headers=headers)
        if operation[NEEDS] == Scope.READ:
            assert response.status_code in {200, 404, 422}, f"{method} {path}: {response.text}"
        else:
            assert response.status_code == 403, f"{method} {path}: {response.text}"
            assert "is suspended (unpaid)" in response.json()["detail"]


async def test_a_tenants_key_is_not_the_fleets(
    app: FastAPI, http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    headers = {"Authorization": f"Bearer {await key_of(base, tenant, *ALL)}", "X-Request-Id": "r"}
    for method, path in every(app, lambda one: one[FOR] == "fleet"):
        said = set()
        for name in (tenant, "nobody"):
            response = await http.request(method, path.replace("nobody", name), headers=headers)
            assert response.status_code == 403, f"{method} {path}: {response.text}"
            said.add(response.text)
        assert len(said) == 1, "whether there is such a tenant shows nowhere"


async def test_what_is_another_tenants_is_to_the_byte_as_what_is_not(
    app: FastAPI, http: httpx.AsyncClient, base: Base, tenant: str, fleet: Fleet
) -> None:
    mission_id = await submitted(http)
    await fleet.plan(mission_id)
    stranger = {"Authorization": f"Bearer {await key_of(base, f'{tenant}-other', *ALL)}", "X-Request-Id": "r"}
    theirs = (await base.api_keys.list(tenant))[0].key_id
    known = {"{mission_id}": mission_id, "{task_id}": f"{mission_id}.0", "{key_id}": theirs}
    absent = {"{mission_id}": "zzz9", "{task_id}": "zzz9.0", "{key_id}": "0badcafe"}
    tried, reason = 0, {"reason": "r"}
    for method, path, operation in routes(app):
        names = [name for name in known if name in path]
        if not names or operation[FOR] == "fleet":
            continue
        answers = []
        for ids in (known, absent):
            at = path
            for name in names:
                at = at.replace(name, ids[name])
            body = BODIES.get(f"{method} {path}")
            response = await http.request(
                method, at, json=body, headers=stranger, params=reason if method == "DELETE" else None
            )
            assert response.status_code == 404, f"{method} {path}: {response.text}"
            text = response.text
            for name in sorted(names, key=lambda one: one != "{task_id}"):
                text = text.replace(ids[name], name)
            answers.append(text)
        assert answers[0] == answers[1], f"{method} {path}"
        tried += 1
    assert tried >= 18


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/keys", None),
        ("POST", "/v1/keys", {}),
        ("POST", "/v1/keys/0badcafe/rotate", {}),
        ("DELETE", "/v1/keys/0badcafe?reason=r", None),
        ("GET", "/v1/audit", None),
    ],
)
async def test_whether_there_is_another_tenant_shows_nowhere(
    http: httpx.AsyncClient, base: Base, tenant: str, method: str, path: str, body: Any
) -> None:
    headers = {"Authorization": f"Bearer {await key_of(base, tenant, *ALL)}", "X-Request-Id": "r"}
    other = f"{tenant}-other"
    await base.tenants.add(other)
    try:
        said = set()
        for name in (other, "nobody", FLEET):
            asked = f"{path}{'&' if '?' in path else '?'}tenant={name}"
            response = await http.request(method, asked, json=body, headers=headers)
            assert response.status_code == 404, response.text
            said.add(response.text.replace(name, "NAME"))
    finally:
        await base.tenants.remove(other)
    assert len(said) == 1


async def test_metrics_ask_for_a_key_of_the_fleet_where_they_are_not_open(base: Base, tenant: str) -> None:
    closed = replace(base, settings=base.settings.model_copy(update={"metrics_open": False}))
    transport = httpx.ASGITransport(create_app(Hub(closed)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
        statuses = []
        for owner in ("", tenant, FLEET):
            headers = {"Authorization": f"Bearer {await key_of(base, owner, Scope.READ)}"} if owner else {}
            statuses.append((await http.get("/metrics", headers=headers)).status_code)
        assert statuses == [401, 403, 200]
        assert (await http.get("/healthz")).status_code == 200


async def test_a_request_over_a_keys_own_rate_is_told_that_it_is_the_keys(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    slow = await base.api_keys.create(tenant, uuid.uuid4().hex, by="o", requests_per_s=0.01)
    headers = {"Authorization": f"Bearer {slow.key}"}
    answers = [await http.get("/v1/spend", headers=headers) for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 429]
    said = answers[1].json()["detail"]
    assert said.startswith(f"key {slow.record.key_id} sends more than 0.01 requests a second")
    assert 90 < json.loads(answers[1].text)["retry_after_s"] <= 100
    assert (await http.get("/v1/spend")).status_code == 200, "other keys of the tenant go on"
