"""Limits over HTTP: lowered with `operate`, raised with `limits` and a reason, each change recorded."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from chimera.core.scope import ALL, FLEET, Scope
from chimera.runtime.base import Base
from chimera.store.fleetledger import FleetLedger
from chimera.store.ledger import Ledger
from tests.keys import key_of


async def asked(
    http: httpx.AsyncClient, base: Base, tenant: str, scopes: set[Scope], body: Any, whose: str = ""
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {await key_of(base, tenant, *scopes)}"}
    params = {"tenant": whose} if whose else {}
    return await http.patch("/v1/limits", json=body, headers=headers, params=params)


OPERATE = {Scope.OPERATE, Scope.READ}
MONEY = {Scope.OPERATE, Scope.LIMITS}


async def test_a_limit_is_set_and_lowered_by_who_operates(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    for usd, microusd in (("5", 5_000_000), ("4.5", 4_500_000)):
        done = await asked(http, base, tenant, OPERATE, {"limits_usd": {"day": usd, "agent/a/hour": usd}})
        assert done.status_code == 200, done.text
        assert done.json()["limits_microusd"] == {"agent/a/hour": microusd, "day": microusd}
    assert await base.of(tenant).ledger.limits() == {"day": 4_500_000, "agent/a/hour": 4_500_000}


@pytest.mark.parametrize("usd", ["6", None])
async def test_to_raise_or_remove_a_limit_takes_its_scope_and_a_reason(
    http: httpx.AsyncClient, base: Base, tenant: str, usd: str | None
) -> None:
    await base.of(tenant).ledger.set_limits({"day": 5_000_000}, by="o")
    change: dict[str, Any] = {"limits_usd": {"day": usd}}
    refused = await asked(http, base, tenant, OPERATE, {**change, "reason": "asked"})
    assert (refused.status_code, "`limits`" in refused.json()["detail"]) == (403, True)
    silent = await asked(http, base, tenant, MONEY, {**change, "reason": " "})
    assert (silent.status_code, "say why" in silent.json()["detail"]) == (422, True)
    assert await base.of(tenant).ledger.limits() == {"day": 5_000_000}, "nothing was changed"
    done = await asked(http, base, tenant, MONEY, {**change, "reason": "contract 17"})
    assert done.status_code == 200, done.text
    events, _ = await base.audit.of_tenant(base.of(tenant).recorder)
    (_, last) = events
    assert (last.kind, last.details["reason"], last.details["raised"]) == ("limits.set", "contract 17", 1)
    assert last.by.startswith("key:")
    assert last.details["before"] == {"day": 5_000_000}
    assert last.details["limits"] == ({"day": 6_000_000} if usd else {})


async def test_a_limit_that_is_lowered_while_a_change_is_looked_at_is_not_raised_by_it(
    http: httpx.AsyncClient, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = base.of(tenant).ledger
    change = Ledger.change_limits

    async def late(self: Ledger, changes: Any, *args: Any, **how: Any) -> dict[str, int]:
        await ledger.set_limits({"day": 1_000_000}, by="o")
        return await change(self, changes, *args, **how)

    monkeypatch.setattr(Ledger, "change_limits", late)
    for usd in ("4", "5"):
        await ledger.set_limits({"day": 5_000_000}, by="o")
        refused = await asked(http, base, tenant, OPERATE, {"limits_usd": {"day": usd}})
        assert (refused.status_code, "ask again" in refused.json()["detail"]) == (409, True)
    assert await ledger.limits() == {"day": 1_000_000}


async def test_a_change_is_made_and_recorded_once_for_an_idempotency_key(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    headers = {"Authorization": f"Bearer {await key_of(base, tenant, *ALL)}", "Idempotency-Key": "k"}
    for _ in range(2):
        done = await http.patch("/v1/limits", json={"limits_usd": {"day": "5"}}, headers=headers)
        assert done.status_code == 200
    events, _ = await base.audit.of_tenant(base.of(tenant).recorder)
    assert [event.kind for event in events] == ["limits.set"]


async def test_a_limit_that_is_lowered_while_it_is_looked_at_is_raised_by_nobody_without_the_scope(
    http: httpx.AsyncClient, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await base.of(tenant).ledger.set_limits({"day": 1_000_000}, by="o")
    # As it stood when the request looked: no raise.
    monkeypatch.setattr("chimera.serving.gateway.routes.limits.raised", lambda before, changes: ())
    done = await asked(http, base, tenant, OPERATE, {"limits_usd": {"day": "5"}})
    assert (done.status_code, "lowered meanwhile" in done.json()["detail"]) == (409, True)
    assert await base.of(tenant).ledger.limits() == {"day": 1_000_000}


async def test_a_key_of_the_fleet_changes_any_tenants_limits_and_the_fleets_own(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    done = await asked(http, base, FLEET, set(ALL), {"limits_usd": {"day": "5"}}, tenant)
    assert (done.json()["tenant"], await base.of(tenant).ledger.limits()) == (tenant, {"day": 5_000_000})
    ours = await asked(http, base, FLEET, set(ALL), {"limits_usd": {"year": "900"}})
    try:
        assert (ours.json()["tenant"], ours.json()["limits_microusd"]["year"]) == (FLEET, 900_000_000)
        within = await asked(http, base, FLEET, set(ALL), {"limits_usd": {"agent/a/day": "1"}})
        assert (within.status_code, "?tenant=NAME" in within.text) == (422, True)
    finally:
        ledger = FleetLedger(base.redis)
        await ledger.change_limits({"year": None}, f"undo {tenant}", by="test", reason="as before")


@pytest.mark.parametrize(
    "limits", [{}, {"week": "5"}, {"day": "-1"}, {"day": "0.0000001"}, {"model//day": "1"}, {"day": "many"}]
)
async def test_what_can_be_no_limit_is_refused(
    http: httpx.AsyncClient, base: Base, tenant: str, limits: dict[str, str]
) -> None:
    done = await asked(http, base, tenant, MONEY, {"limits_usd": limits, "reason": "asked"})
    assert done.status_code == 422, done.text
    assert await base.of(tenant).ledger.limits() == {}
