"""Tenants and keys over HTTP, for keys of the fleet and for a tenant's own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chimera.core.scope import ALL, FLEET, Scope
from chimera.runtime.base import Base
from chimera.runtime.users import reconcile
from chimera.serving.gateway import Hub, create_app
from chimera.store import apikeys, keys
from tests.keys import key_of
from tests.redis_fixtures import logged_in
from tests.serving.gateway.conftest import Fleet, submitted


@pytest.fixture
async def fleets(app: FastAPI, base: Base) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key of the whole fleet."""
    headers = {"Authorization": f"Bearer {await key_of(base, FLEET, *ALL)}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as client:
        yield client


@pytest.fixture
async def mine(app: FastAPI, base: Base, tenant: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a tenant's own key of every scope but `limits`."""
    headers = {"Authorization": f"Bearer {await key_of(base, tenant)}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as client:
        yield client


@pytest.fixture
async def name(base: Base, tenant: str) -> AsyncIterator[str]:
    yield f"{tenant}-new"
    await base.tenants.remove(f"{tenant}-new")


async def acts(http: httpx.AsyncClient, tenant: str = "") -> list[tuple[str, str]]:
    page = (await http.get("/v1/audit", params={"tenant": tenant} if tenant else {})).json()
    assert page["next"] is None
    return [(one["kind"], one["details"].get("reason", "")) for one in page["items"]]


async def test_a_tenants_whole_life_over_http_leaves_one_entry_for_each_act(
    fleets: httpx.AsyncClient, base: Base, name: str
) -> None:
    made = await fleets.post("/v1/tenants", json={"name": name, "reason": "asked"})
    assert made.status_code == 201, made.text
    key = made.json()["key"]["api_key"]
    assert set(made.json()["key"]["scopes"]) == {"submit", "read", "operate", "admin"}
    again = await fleets.post("/v1/tenants", json={"name": name})
    assert (again.status_code, again.json()["made"], again.json()["key"]) == (200, False, None)
    changed = await fleets.patch(f"/v1/tenants/{name}", json={"weight": 3, "spoke": True, "reason": "grew"})
    assert (changed.json()["weight"], changed.json()["spoke"]) == (3, True)
    for _ in range(2):
        held = await fleets.post(
            f"/v1/tenants/{name}/suspend", json={"reason": "unpaid"}, headers={"Idempotency-Key": "s"}
        )
        assert held.json()["suspended_reason"] == "unpaid"
    assert (await fleets.post(f"/v1/tenants/{name}/resume")).json()["suspended_at"] is None
    assert (await fleets.get(f"/v1/tenants/{name}")).json()["weight"] == 3
    assert (await base.api_keys.authenticate(key)).tenant == name
    gone = await fleets.delete(f"/v1/tenants/{name}", params={"reason": "left"})
    assert gone.status_code == 200, gone.text
    assert (await fleets.get(f"/v1/tenants/{name}")).status_code == 404
    assert name not in [one["tenant"] for one in (await fleets.get("/v1/tenants")).json()["items"]]
    assert await acts(fleets, name) == [
        ("tenant.added", "asked"),
        ("key.created", "asked"),
        ("quota.set", "grew"),
        ("tenant.suspended", "unpaid"),
        ("tenant.resumed", ""),
        ("tenant.removed", "left"),
    ]


async def test_the_gateways_own_user_of_redis_suffices_for_all_of_it(
    base: Base, tenant: str, name: str
) -> None:
    fleets = {"Authorization": f"Bearer {await key_of(base, FLEET, *ALL)}"}
    await base.redis.hdel(keys.KEYS_USED, apikeys.ADOPTED)
    await reconcile(base)
    async with logged_in(base.settings, "gateway") as at:
        transport = httpx.ASGITransport(create_app(Hub(at)))
        async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=fleets) as http:
            made = await http.post("/v1/tenants", json={"name": name})
            assert made.status_code == 201, made.text
            key_id = made.json()["key"]["key_id"]
            theirs = {"Authorization": f"Bearer {made.json()['key']['api_key']}"}
            calls: list[tuple[str, str, Any]] = [
                ("GET", "/v1/tenants", None),
                ("PATCH", f"/v1/tenants/{name}", {"weight": 2}),
                ("PATCH", f"/v1/limits?tenant={name}", {"limits_usd": {"day": "5"}}),
                ("GET", f"/v1/limits?tenant={name}", None),
                ("POST", f"/v1/keys?tenant={name}", {"requests_per_s": 5}),
                ("POST", "/v1/keys", {"scopes": ["read"]}),
                ("GET", f"/v1/keys?tenant={name}", None),
                ("POST", f"/v1/keys/{key_id}/rotate?tenant={name}", {}),
                ("DELETE", f"/v1/keys/{key_id}?tenant={name}&reason=r", None),
                ("POST", f"/v1/tenants/{name}/suspend", {"reason": "r"}),
                ("POST", f"/v1/tenants/{name}/resume", {"reason": "r"}),
                ("GET", f"/v1/audit?tenant={name}", None),
                ("GET", "/v1/audit", None),
            ]
            assert (await http.get("/v1/spend", headers=theirs)).status_code == 200
            for method, path, body in calls:
                done = await http.request(method, path, json=body)
                assert done.status_code in {200, 201}, f"{method} {path}: {done.text}"
            gone = await http.delete(f"/v1/tenants/{name}", params={"reason": "r"})
            assert gone.status_code == 200, gone.text


async def test_a_null_resets_a_bound_and_what_is_left_out_stays(
    fleets: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await fleets.patch(f"/v1/tenants/{tenant}", json={"weight": 3, "max_agents": 7})
    await fleets.patch(f"/v1/tenants/{tenant}", json={"weight": None})
    quota = await base.tenants.quota(tenant)
    assert (quota.weight, quota.max_agents) == (1, 7)


async def test_one_damaged_quota_is_named_beside_the_other_tenants(
    fleets: httpx.AsyncClient, base: Base, tenant: str, name: str
) -> None:
    await base.tenants.add(name)
    await base.redis.hset(base.of(name).tasks.keys.quota, "weight", "heavy")
    try:
        page = (await fleets.get("/v1/tenants")).json()
        assert tenant in [one["tenant"] for one in page["items"]]
        (damaged,) = [one for one in page["damaged"] if one["id"] == name]
        assert f"chimera tenant set {name} --reset" in damaged["detail"]
    finally:
        await base.redis.delete(base.of(name).tasks.keys.quota)


async def test_open_work_keeps_a_tenant_unless_it_is_forced(
    fleets: httpx.AsyncClient, http: httpx.AsyncClient, tenant: str, fleet: Fleet
) -> None:
    mission_id = await submitted(http)
    await fleet.plan(mission_id)
    refused = await fleets.delete(f"/v1/tenants/{tenant}", params={"reason": "left"})
    assert (refused.status_code, "1 missions" in refused.json()["detail"]) == (409, True)
    assert (await http.get(f"/v1/missions/{mission_id}")).json()["status"] == "RUNNING"
    forced = {"reason": "left", "force": "true"}
    ending = await fleets.delete(f"/v1/tenants/{tenant}", params=forced)
    assert (ending.status_code, "1 missions" in ending.json()["detail"]) == (409, True)
    await fleet.settle(mission_id)
    assert (await fleets.delete(f"/v1/tenants/{tenant}", params=forced)).status_code == 200


async def test_a_tenant_looks_after_its_own_keys(mine: httpx.AsyncClient, base: Base, tenant: str) -> None:
    body = {"scopes": ["read"], "name": "ci", "expires_in_s": 3_600, "requests_per_s": 5, "reason": "for CI"}
    made = await mine.post("/v1/keys", json=body)
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    one = made.json()
    assert (await base.api_keys.authenticate(one["api_key"])).scopes == {Scope.READ}
    listed = (await mine.get("/v1/keys")).json()["items"]
    assert one["key_id"] in [key["key_id"] for key in listed]
    assert not any("api_key" in key for key in listed)
    new = await mine.post(f"/v1/keys/{one['key_id']}/rotate", json={"overlap_s": 60, "reason": "yearly"})
    assert (new.status_code, new.json()["name"], new.json()["scopes"]) == (201, "ci", ["read"])
    gone = await mine.delete(f"/v1/keys/{one['key_id']}", params={"reason": "leaked"})
    assert gone.json() == {"key_id": one["key_id"], "within_s": 1.0}
    assert await acts(mine) == [
        ("key.created", "for CI"),
        ("key.rotated", "yearly"),
        ("key.revoked", "leaked"),
    ]
    everything = (await mine.get("/v1/audit")).text
    assert not any(key in everything for key in (one["api_key"], new.json()["api_key"]))


async def test_an_idempotency_key_makes_one_key(mine: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    answers = [await mine.post("/v1/keys", json={}, headers=headers) for _ in range(2)]
    assert [one.status_code for one in answers] == [201, 409]
    assert "a key is shown once" in answers[1].json()["detail"]
    assert len((await mine.get("/v1/keys")).json()["items"]) == 2
    assert len(await acts(mine)) == 1


async def test_nobody_gives_or_rotates_into_their_hands_a_scope_they_lack(
    mine: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    given = await mine.post("/v1/keys", json={"scopes": ["read", "limits"]})
    assert (given.status_code, "with limits" in given.json()["detail"]) == (403, True)
    mighty = await base.api_keys.create(tenant, "a", by="o", scopes=ALL)
    taken = await mine.post(f"/v1/keys/{mighty.record.key_id}/rotate", json={})
    assert (taken.status_code, "with limits" in taken.json()["detail"]) == (403, True)
    assert (await base.api_keys.get(tenant, mighty.record.key_id)).expires_at == 0


async def test_a_key_of_the_fleet_makes_keys_of_tenants_and_of_the_fleet(
    fleets: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    theirs = (await fleets.post("/v1/keys", params={"tenant": tenant}, json={})).json()
    assert (await base.api_keys.authenticate(theirs["api_key"])).tenant == tenant
    ours = (await fleets.post("/v1/keys", json={"scopes": ["read"], "reason": "dashboards"})).json()
    assert ours["tenant"] == FLEET
    assert ("key.created", "dashboards") in await acts(fleets)
    headers = {"Authorization": f"Bearer {ours['api_key']}"}
    assert (await fleets.get("/v1/tenants", headers=headers)).status_code == 200
    assert (await fleets.post("/v1/tenants", json={"name": "x"}, headers=headers)).status_code == 403
    gone = await fleets.delete(f"/v1/keys/{ours['key_id']}", params={"reason": "test"})
    assert gone.status_code == 200
    nobody = await fleets.get("/v1/keys", params={"tenant": "nobody"})
    assert nobody.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/tenants", {"name": "Big Corp"}),
        ("POST", "/v1/tenants", {"name": "*"}),
        ("POST", "/v1/tenants", {"name": "fine", "scopes": ["root"]}),
        ("PATCH", "/v1/tenants/TENANT", {"weight": 0}),
        ("PATCH", "/v1/tenants/TENANT", {"colour": 3}),
        ("POST", "/v1/tenants/TENANT/suspend", {}),
        ("DELETE", "/v1/tenants/TENANT", None),
        ("POST", "/v1/keys", {"scopes": []}),
        ("POST", "/v1/keys", {"expires_in_s": 0}),
        ("GET", "/v1/audit?after=nonsense", None),
    ],
)
async def test_what_cannot_be_is_refused_with_its_place(
    fleets: httpx.AsyncClient, base: Base, tenant: str, method: str, path: str, body: Any
) -> None:
    response = await fleets.request(method, path.replace("TENANT", tenant), json=body)
    assert response.status_code == 422, response.text
    assert (await base.tenants.record(tenant)).suspended is False
