"""`chimera governor`: the operator's commands on brakes, on Redis itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from chimera.cli import store
from chimera.core.brake import Brake, BrakeCause, BrakeState, Decision
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app
from chimera.serving.gateway.braked import proven
from chimera.store.brakes import BrakeStore, Look, Move
from chimera.store.keys import CANARY, TenantKeys
from tests.cli.conftest import Shell, served
from tests.keys import key_of
from tests.store import drive


@pytest.fixture
def operator(shell: Shell, base: Base) -> Shell:
    assert base.settings.redis_url is not None
    url = base.settings.redis_url.get_secret_value()
    return replace(shell, environment={**shell.environment, "CHIMERA_REDIS_URL": url})


@pytest.fixture
async def other(base: Base, tenant: str) -> AsyncIterator[str]:
    name = f"{tenant}-other"
    await base.tenants.add(name)
    yield name
    await base.tenants.remove(name)


async def brake(base: Base, tenant: str) -> Brake:
    look = (await BrakeStore(base.redis).look([tenant], short_s=60, long_s=300))[tenant]
    assert isinstance(look, Look)
    return look.brake


async def test_one_tenant_is_frozen_shown_and_thawed(
    operator: Shell, base: Base, tenant: str, other: str
) -> None:
    done = await operator("governor", "freeze", tenant, "--reason", "a loop")
    assert (done.code, done.out.split()) == (0, [tenant, "frozen"])
    assert (await brake(base, other)).state is BrakeState.OPEN
    shown = (await operator("governor", "status", tenant, "-o", "json")).document
    (view,) = shown["tenants"]
    assert (view["state"], view["by"], view["reason"]) == ("frozen", store.operator(), "a loop")
    assert shown["canary"]["ok"]
    said = (await operator("governor", "status")).out
    assert "a loop" in said
    assert f"canary: {shown['canary']['detail']}" in said
    assert (await operator("governor", "thaw", tenant, "--reason", "mended")).code == 0
    assert (await brake(base, tenant)).state is BrakeState.OPEN


async def test_an_order_that_changes_nothing_says_so(operator: Shell, tenant: str) -> None:
    freeze = ("governor", "freeze", tenant, "--reason", "a loop")
    assert "nothing was changed" not in (await operator(*freeze)).out
    assert (await operator(*freeze)).out == f"{tenant}  frozen; nothing was changed\n"


async def test_an_override_says_when_it_ends(operator: Shell, tenant: str) -> None:
    done = await operator("governor", "override", tenant, "--minutes", "5", "--reason", "launch")
    (view,) = (await operator("governor", "status", tenant, "-o", "json")).document["tenants"]
    assert f"open until {view['override_until']}" in done.out


async def test_all_are_moved_at_once(operator: Shell, base: Base, tenant: str, other: str) -> None:
    done = await operator("governor", "override", "--all", "--minutes", "5", "--reason", "launch")
    assert done.code == 0
    for name in (tenant, other):
        found = await brake(base, name)
        assert found.override_until_us - found.since_us == 300_000_000


async def test_an_operation_that_comes_again_changes_nothing(
    operator: Shell, base: Base, tenant: str
) -> None:
    for verb, operation in (("freeze", "a"), ("thaw", "b"), ("freeze", "a")):
        await operator("governor", verb, tenant, "--reason", "we look", "--operation", operation)
    assert (await brake(base, tenant)).state is BrakeState.OPEN


async def test_the_operator_clears_a_failed_canary_by_thawing_all(
    operator: Shell, base: Base, tenant: str
) -> None:
    brakes = BrakeStore(base.redis)
    await brakes.report_canary("granted", "", "c1", term=10**9)
    try:
        frozen = Decision(BrakeState.FROZEN, BrakeCause.CANARY, 0, "c1", {})
        await brakes.move([Move(tenant, Brake(), frozen)], term=drive.TERM, by="g")
        assert "limits do not hold" in (await operator("governor", "status")).err
        await operator("governor", "thaw", tenant, "--reason", "this one may")
        assert (await brake(base, tenant)).state is BrakeState.OPEN
        assert (await brakes.canary()).failure == "c1"
        await operator("governor", "thaw", "--all", "--reason", "mended")
        assert (await brakes.canary()).failure == ""
    finally:
        await base.redis.delete(CANARY)


async def test_doctor_says_that_the_canary_failed_and_what_to_do(
    operator: Shell, base: Base, tenant: str
) -> None:
    key = operator.write("key", await key_of(base, tenant))
    try:
        async with served(create_app(Hub(base, {"canary": proven(base)}))) as url:
            hub = ("--url", url, "--api-key-file", str(key))
            assert (await operator("doctor", *hub)).code == 0
            await BrakeStore(base.redis).report_canary("granted", "", "c1", term=10**9)
            done = await operator("doctor", *hub)
    finally:
        await base.redis.delete(CANARY)
    assert done.code == 4
    assert "canary is not well" in done.out
    assert "chimera governor thaw --all" in done.out


async def test_a_damaged_brake_is_named_and_the_others_are_shown(
    operator: Shell, base: Base, tenant: str, other: str
) -> None:
    await base.redis.hset(TenantKeys(tenant).brake, "state", "ajar")
    done = await operator("governor", "status")
    assert done.code == 0
    assert f"{tenant} cannot be read" in done.err
    assert other in done.out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("freeze", "no-such", "--reason", "x"), "there is no tenant 'no-such': `chimera tenant list`"),
        (("freeze", "--reason", "x"), "say whose brake"),
        (("thaw", "acme", "--all", "--reason", "x"), "say whose brake"),
        (("freeze", "acme"), "say why with --reason"),
        (("override", "acme", "--reason", "x", "--minutes", "2000"), "--minutes"),
    ],
)
async def test_what_cannot_be_says_why_and_exits_2(
    operator: Shell, command: tuple[str, ...], said: str
) -> None:
    done = await operator("governor", *command)
    assert done.code == 2
    assert said in done.err
