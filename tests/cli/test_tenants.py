"""`chimera tenant` and `chimera key`: the operator's commands, on Redis itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from chimera.core.scope import ALL, FLEET, USUAL, WORKING
from chimera.errors import Unauthorized
from chimera.runtime.base import Base
from chimera.runtime.spoke import open_spoke
from chimera.settings import load
from tests.cli.conftest import Shell
from tests.store import drive


@pytest.fixture
def operator(shell: Shell, base: Base) -> Shell:
    assert base.settings.redis_url is not None
    url = base.settings.redis_url.get_secret_value()
    return replace(shell, environment={**shell.environment, "CHIMERA_REDIS_URL": url})


@pytest.fixture
async def name(base: Base, tenant: str) -> AsyncIterator[str]:
    yield f"{tenant}-new"
    await base.tenants.remove(f"{tenant}-new")


async def test_a_tenant_is_made_once_with_a_key_that_acts_for_it(
    operator: Shell, base: Base, name: str
) -> None:
    done = await operator("tenant", "add", name, "--reason", "asked")
    assert done.code == 0, done.err
    principal = await base.api_keys.authenticate(done.out.strip())
    assert (principal.tenant, principal.scopes) == (name, USUAL)
    assert f"key {principal.key_id} with" in done.err
    assert "it never ends" in done.err
    again = await operator("tenant", "add", name, "-o", "json")
    assert (again.code, again.document) == (0, {"tenant": name, "made": False})
    assert f"`chimera key create --tenant {name}`" in again.err
    assert len(await base.api_keys.list(name)) == 1, "no second key, silently"
    listed = (await operator("tenant", "list", "-o", "json")).document
    assert next(one for one in listed if one["tenant"] == name)["weight"] == 1
    assert name in (await operator("tenant", "list")).out


async def test_a_quota_is_changed_shown_and_reset(operator: Shell, base: Base, tenant: str) -> None:
    done = await operator("tenant", "set", tenant, "--max-agents", "7", "--weight", "3")
    assert done.code == 0, done.err
    assert "max_agents      7" in done.out.splitlines()
    quota = await base.tenants.quota(tenant)
    assert (quota.max_agents, quota.weight) == (7, 3)
    shown = (await operator("tenant", "get", tenant, "-o", "json")).document
    assert shown["max_agents"] == 7
    assert {key: shown[key] for key in quota.model_dump()} == quota.model_dump()
    await operator("tenant", "set", tenant, "--reset", "--weight", "2")
    quota = await base.tenants.quota(tenant)
    assert (quota.max_agents, quota.weight) == (0, 2)
    assert len([1 async for _ in base.of(tenant).recorder.read()]) == 2, "what is only shown is no event"


async def test_a_tenants_spoke_is_asked_for_shown_and_given_its_login(
    operator: Shell, base: Base, tenant: str
) -> None:
    secret = base.settings.redis_secret
    assert secret is not None
    roles = {"CHIMERA_REDIS_USERS": "roles", "CHIMERA_REDIS_SECRET": secret.get_secret_value()}
    hub = replace(operator, environment={**operator.environment, **roles})
    early = await hub("tenant", "login", tenant)
    assert (early.code, f"`chimera tenant set {tenant} --spoke`" in early.err) == (0, True)
    done = await hub("tenant", "set", tenant, "--spoke")
    assert done.code == 0, done.err
    assert "spoke           yes" in done.out.splitlines()
    assert (await base.tenants.quota(tenant)).spoke
    given = await hub("tenant", "login", tenant, "-o", "json")
    assert given.document["user"] == f"chimera.spoke.{tenant}"
    url = given.document["redis_url"]
    assert early.out.strip() == url
    assert (await hub("tenant", "login", tenant)).err == ""
    opened = await open_spoke(load(redis_url=url), tenant)
    await opened.close()
    await hub("tenant", "set", tenant, "--no-spoke")
    assert not (await base.tenants.quota(tenant)).spoke
    assert "spoke           no" in (await hub("tenant", "get", tenant)).out.splitlines()
    missing = await hub("tenant", "login", "nobody")
    assert (missing.code, "no tenant 'nobody'" in missing.err) == (2, True)
    single = await operator("tenant", "login", tenant)
    assert (single.code, "CHIMERA_REDIS_USERS=single" in single.err) == (2, True)


async def test_a_reset_takes_no_tenant_from_its_spoke(operator: Shell, base: Base, tenant: str) -> None:
    """The hub would start workers for it, and the spoke send its own away: nobody asked for that."""
    await operator("tenant", "set", tenant, "--spoke", "--max-agents", "7")
    done = await operator("tenant", "set", tenant, "--reset")
    assert done.code == 0, done.err
    quota = await base.tenants.quota(tenant)
    assert (quota.max_agents, quota.spoke) == (0, True)
    await operator("tenant", "set", tenant, "--reset", "--no-spoke")
    assert not (await base.tenants.quota(tenant)).spoke


async def test_a_damaged_word_on_the_spoke_is_mended_as_it_says(
    operator: Shell, base: Base, tenant: str
) -> None:
    await base.redis.hset(base.of(tenant).tasks.keys.quota, "spoke", "perhaps")
    done = await operator("tenant", "get", tenant)
    assert f"`chimera tenant set {tenant} --spoke` or `--no-spoke`" in done.err
    assert (await operator("tenant", "set", tenant, "--spoke")).code == 0
    assert (await base.tenants.quota(tenant)).spoke


async def test_the_fleets_defaults_are_shown_where_a_quota_says_nothing(operator: Shell, tenant: str) -> None:
    shell = replace(operator, environment={**operator.environment, "CHIMERA_TENANT_MAX_AGENTS": "40"})
    assert json.loads((await shell("tenant", "get", tenant, "-o", "json")).out)["max_agents"] == 40


async def test_one_damaged_quota_is_named_beside_the_other_tenants(
    operator: Shell, base: Base, tenant: str, name: str
) -> None:
    await base.tenants.add(name)
    quota = base.of(name).tasks.keys.quota
    await base.redis.hset(quota, "weight", "heavy")
    done = await operator("tenant", "list", "-o", "json")
    assert done.code == 0
    assert tenant in [one["tenant"] for one in done.document]
    assert f"{name} is left out" in done.err
    mended = await operator("tenant", "set", name, "--reset")
    assert mended.code == 0, mended.err
    assert await base.redis.exists(quota) == 0


async def test_a_tenant_is_suspended_resumed_and_removed_for_the_record(
    operator: Shell, base: Base, name: str
) -> None:
    await operator("tenant", "add", name)
    assert "is suspended" in (await operator("tenant", "suspend", name, "--reason", "unpaid")).out
    assert "already" in (await operator("tenant", "suspend", name, "--reason", "unpaid")).out
    assert "unpaid" in (await operator("tenant", "get", name)).out
    assert "suspended: unpaid" in (await operator("tenant", "list")).out
    assert "goes on" in (await operator("tenant", "resume", name)).out
    assert "nothing was changed" in (await operator("tenant", "resume", name)).out
    assert (await operator("tenant", "remove", name, "--reason", "left")).code == 0
    assert name not in await base.tenants.names()
    acts = (await operator("tenant", "audit", name, "-o", "json")).document
    assert [one["kind"] for one in acts] == [
        "tenant.added",
        "key.created",
        "tenant.suspended",
        "tenant.resumed",
        "tenant.removed",
    ]
    assert all(one["by"].startswith("operator") for one in acts)
    assert "unpaid" in (await operator("tenant", "audit", name)).out


async def test_limits_are_set_lowered_and_raised_only_with_a_reason(
    operator: Shell, base: Base, tenant: str
) -> None:
    ledger = base.of(tenant).ledger
    done = await operator("tenant", "set", tenant, "--limit", "day=5", "--limit", "agent/a/b/day=1.5")
    assert done.code == 0, done.err
    assert "limit day  $5.000000" in done.out
    assert await ledger.limits() == {"day": 5_000_000, "agent/a/b/day": 1_500_000}
    for raised in ("day=6", "day=none"):
        silent = await operator("tenant", "set", tenant, "--limit", raised, "--weight", "2")
        assert (silent.code, "--reason" in silent.err) == (2, True), silent.err
    assert (await base.tenants.quota(tenant)).weight == 1, "nothing was changed"
    done = await operator(
        "tenant", "set", tenant, "--limit", "day=none", "--reason", "contract", "-o", "json"
    )
    assert done.document["limits_microusd"] == {"agent/a/b/day": 1_500_000}
    wrong = await operator("tenant", "set", tenant, "--limit", "week=5")
    assert (wrong.code, "week" in wrong.err) == (2, True)


async def test_what_takes_something_away_must_say_why(operator: Shell, base: Base, tenant: str) -> None:
    for command in (("tenant", "suspend", tenant), ("tenant", "remove", tenant), ("key", "revoke", "k")):
        done = await operator(*command)
        assert (done.code, "--reason" in done.err) == (2, True), done.err
    assert not (await base.tenants.record(tenant)).suspended


async def test_open_work_keeps_a_tenant(operator: Shell, base: Base, tenant: str) -> None:
    await drive.begin(base, tenant, drive.spec())
    done = await operator("tenant", "remove", tenant, "--reason", "left")
    assert (done.code, "--force" in done.err) == (3, True), done.err
    assert tenant in await base.tenants.names()


async def test_a_key_is_made_listed_rotated_and_revoked(operator: Shell, base: Base, tenant: str) -> None:
    whose = ("--tenant", tenant)
    made = await operator("key", "create", *whose, "--name", "ci", "--expires", "90d", "-o", "json")
    assert made.code == 0, made.err
    key_id, key = made.document["key_id"], made.document["api_key"]
    assert (await base.api_keys.authenticate(key)).scopes == WORKING
    listed = await operator("key", "list", *whose)
    assert "submit,read" in listed.out
    assert key not in listed.out
    rotated = await operator("key", "rotate", key_id, *whose, "--overlap", "0")
    assert (rotated.code, "has ended" in rotated.err) == (0, True), rotated.err
    with pytest.raises(Unauthorized):
        await base.api_keys.authenticate(key)
    new = await base.api_keys.authenticate(rotated.out.strip())
    assert f"key {new.key_id} with submit, read; it ends 2" in rotated.err
    assert "shown this once" in rotated.err
    revoked = await operator("key", "revoke", new.key_id, *whose, "--reason", "leaked")
    assert "within 1 s" in revoked.out
    with pytest.raises(Unauthorized):
        await base.api_keys.authenticate(rotated.out.strip())
    again = await operator("key", "revoke", new.key_id, *whose, "--reason", "leaked")
    assert (again.code, f"`chimera key list --tenant {tenant}` shows them" in again.err) == (2, True)


async def test_a_key_of_the_fleet_is_made_and_its_making_recorded(operator: Shell, base: Base) -> None:
    made = await operator("key", "create", "--fleet", "--scopes", "all", "--reason", "terraform")
    principal = await base.api_keys.authenticate(made.out.strip())
    assert (principal.tenant, principal.scopes) == (FLEET, ALL)
    assert "terraform" in (await operator("tenant", "audit")).out
    assert (await operator("key", "revoke", principal.key_id, "--fleet", "--reason", "test")).code == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("tenant", "get", "no-such"), "there is no tenant 'no-such': `chimera tenant list`"),
        (("tenant", "set", "no-such", "--weight", "2"), "there is no tenant 'no-such'"),
        (("tenant", "set", "no-such"), "nothing was asked to change"),
        (("tenant", "suspend", "no-such", "--reason", "r"), "there is no tenant 'no-such'"),
        (("tenant", "add", "Big Corp"), "is no name for a tenant"),
        (("key", "create", "--tenant", "no-such"), "there is no tenant 'no-such'"),
        (("key", "create"), "--tenant NAME, or --fleet"),
        (("key", "create", "--tenant", "local", "--fleet"), "--tenant NAME, or --fleet"),
        (("key", "create", "--fleet", "--scopes", "root"), "there is no scope 'root'"),
        (("key", "create", "--fleet", "--expires", "soon"), "is no time"),
        (("tenant", "audit", "Big Corp"), "is no name for a tenant"),
    ],
)
async def test_what_cannot_be_says_why_and_exits_2(
    operator: Shell, command: tuple[str, ...], said: str
) -> None:
    done = await operator(*command)
    assert (done.code, said in done.err) == (2, True), done.err


async def test_without_a_fleet_it_says_where_tenants_are(shell: Shell) -> None:
    done = await shell("tenant", "list")
    assert done.code == 4
    assert "set CHIMERA_REDIS_URL" in done.err


async def test_limits_over_all_tenants_are_set_and_raised_with_a_reason_only(
    operator: Shell, base: Base, tenant: str
) -> None:
    try:
        assert (await operator("fleet", "limits", "day=100")).out == "day        $100.000000\n"
        refused = await operator("fleet", "limits", "day=none")
        assert (refused.code, "say why with --reason" in refused.err) == (2, True)
        odd = await operator("fleet", "limits", "agent/a/day=5")
        assert (odd.code, "by window alone" in odd.err) == (2, True)
        shown = (await operator("fleet", "limits", "-o", "json")).document
        assert shown == {"limits_microusd": {"day": 100_000_000}, "held_microusd": 0}
    finally:
        gone = await operator("fleet", "limits", "day=none", "--reason", "the test is over")
    assert gone.out.startswith("no limit over all tenants")
