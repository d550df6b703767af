"""`/v1/governor`: a tenant sees its own brake, and moves it with a reason; no other's."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import httpx
import pytest

from chimera.core.brake import Brake, BrakeCause, BrakeState, Decision
from chimera.core.scope import FLEET
from chimera.core.views import ReadyView
from chimera.runtime.base import Base
from chimera.runtime.brakeviews import LATE, SLACK_S, canary_health
from chimera.serving.gateway import Hub
from chimera.serving.gateway.braked import CANARY, proven
from chimera.serving.gateway.routes.probes import ready
from chimera.store.brakes import BrakeStore, CanaryRecord, Move
from chimera.store.keys import TenantKeys
from tests.keys import key_of
from tests.store import drive

FROZEN = Decision(BrakeState.FROZEN, BrakeCause.CANARY, 0, "f1", {})


async def order(http: httpx.AsyncClient, verb: str, key: str = "", **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    return await http.post(f"/v1/governor/{verb}", json={"reason": "we look", **body}, headers=headers)


async def test_a_brake_is_frozen_thawed_and_overridden_by_its_tenant(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    before = (await http.get("/v1/governor")).json()
    assert (before["tenant"], before["state"], before["since"]) == (tenant, "open", None)
    frozen = (await order(http, "freeze", "k1")).json()
    assert (frozen["state"], frozen["cause"], frozen["reason"]) == ("frozen", "operator", "we look")
    assert frozen["by"].startswith("key:")
    assert (await http.get("/v1/governor")).json()["since"] == frozen["since"]
    assert (await order(http, "thaw")).json()["state"] == "open"
    assert (await order(http, "freeze", "k1")).json()["state"] == "open", "the same operation, come again"
    overridden = (await order(http, "override", minutes=5)).json()
    assert overridden["state"] == "open"
    assert overridden["override_until"] > overridden["since"]
    told = [event.details async for _, event in base.of(tenant).recorder.read()]
    assert [(one["from"], one["to"]) for one in told] == [
        ("open", "frozen"),
        ("frozen", "open"),
        ("open", "open"),
    ]


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("freeze", {"reason": ""}),
        ("freeze", {"reason": "  "}),
        ("thaw", {"reason": "x" * 501}),
        ("override", {}),
        ("override", {"minutes": 0.5}),
        ("override", {"minutes": 1_441}),
        ("freeze", {"tenant": "another"}),
    ],
)
async def test_a_word_without_reason_or_end_is_refused(
    http: httpx.AsyncClient, verb: str, body: dict[str, Any]
) -> None:
    assert (await order(http, verb, **body)).status_code == 422
    assert (await http.get("/v1/governor")).json()["state"] == "open"


async def test_a_tenant_does_not_undo_what_the_canary_froze(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await BrakeStore(base.redis).move([Move(tenant, Brake(), FROZEN)], term=drive.TERM, by="g")
    refused = await order(http, "thaw")
    assert refused.status_code == 409
    assert "canary" in refused.json()["detail"]
    assert (await http.get("/v1/governor")).json()["cause"] == "canary"


async def test_a_key_of_the_fleet_moves_any_tenants_brake_and_a_tenants_no_others(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await BrakeStore(base.redis).move([Move(tenant, Brake(), FROZEN)], term=drive.TERM, by="g")
    of_fleet = {"Authorization": f"Bearer {await key_of(base, FLEET)}"}
    word, path = {"reason": "seen to"}, "/v1/governor/thaw"
    unnamed = await http.post(path, json=word, headers=of_fleet)
    assert (unnamed.status_code, "?tenant=NAME" in unnamed.text) == (422, True)
    thawed = await http.post(path, json=word, headers=of_fleet, params={"tenant": tenant})
    assert (thawed.json()["state"], thawed.json()["tenant"]) == ("open", tenant)
    assert (await http.post(path, json=word, params={"tenant": "another"})).status_code == 404
    assert (await http.get("/v1/governor", params={"tenant": "another"})).status_code == 404


async def test_a_damaged_brake_is_said_and_set_anew(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    await base.redis.hset(TenantKeys(tenant).brake, "state", "ajar")
    assert (await http.get("/v1/governor")).status_code == 500
    assert (await order(http, "freeze")).json()["state"] == "frozen"


async def test_metrics_tell_of_brake_and_canary(http: httpx.AsyncClient, tenant: str) -> None:
    await order(http, "freeze")
    text = (await http.get("/metrics")).text
    assert f'chimera_brake_state{{tenant="{tenant}"}} 2.0' in text
    assert f'chimera_brake_notices{{tenant="{tenant}"}} 1.0' in text
    assert f'chimera_brake_burn{{tenant="{tenant}",window="short"}} 0.0' in text


# The canary's part of the hub

NOW = 1_800_000_000_000_000
PROVEN = CanaryRecord("refused", "", NOW - 1_000_000, NOW - 1_000_000, "", 0, NOW)


@pytest.mark.parametrize(
    ("record", "well", "said"),
    [
        (PROVEN, True, "refused 1 s ago"),
        (replace(PROVEN, said="", at_us=0, proven_us=0), True, "none was asked for yet"),
        (replace(PROVEN, failure="f1", failed_us=NOW), False, "every tenant is frozen"),
        (replace(PROVEN, said="odd", detail="the answer was lost"), False, "the answer was lost"),
        (replace(PROVEN, said="silent"), True, "refused 1 s ago"),
        (replace(PROVEN, now_us=NOW + round((LATE * 10 + SLACK_S) * 1e6)), False, "the governor is away"),
        (
            replace(PROVEN, said="silent", proven_us=0, now_us=NOW + round((LATE * 10 + SLACK_S) * 1e6)),
            False,
            "the governor is away",
        ),
    ],
)
def test_the_canary_is_well_while_it_is_refused(record: CanaryRecord, well: bool, said: str) -> None:
    health = canary_health(record, 10)
    assert health.ok is well
    assert said in health.detail


def test_no_canary_is_missed_where_none_is_wanted() -> None:
    assert canary_health(replace(PROVEN, now_us=NOW * 2), 0).ok


async def test_a_failed_canary_shows_and_leaves_the_door_open(base: Base, tenant: str) -> None:
    store = BrakeStore(base.redis)
    hub = Hub(base, probes={CANARY: proven(base)})
    await store.report_canary("granted", "", "c1", term=10**9)
    try:
        shown = ReadyView.model_validate_json(bytes((await ready(hub)).body))
        assert not shown.parts[CANARY].ok
        assert shown.ready
        assert tenant not in shown.parts[CANARY].detail
    finally:
        await store.clear_canary()
        await base.redis.delete("chimera:canary")
