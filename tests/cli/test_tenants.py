"""`chimera tenant`: the operator's commands, on Redis itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from chimera.runtime.base import Base
from tests.cli.conftest import Shell


@pytest.fixture
def operator(shell: Shell, base: Base) -> Shell:
    assert base.settings.redis_url is not None
    url = base.settings.redis_url.get_secret_value()
    return replace(shell, environment={**shell.environment, "CHIMERA_REDIS_URL": url})


async def test_a_tenant_is_made_with_a_key_that_acts_for_it(operator: Shell, base: Base, tenant: str) -> None:
    name = f"{tenant}-new"
    done = await operator("tenant", "add", name)
    assert done.code == 0
    assert (await base.api_keys.authenticate(done.out.strip())).tenant == name
    listed = (await operator("tenant", "list", "-o", "json")).document
    assert next(one for one in listed if one["tenant"] == name)["weight"] == 1
    assert name in (await operator("tenant", "list")).out
    await base.tenants.remove(name)


async def test_a_quota_is_changed_shown_and_reset(operator: Shell, base: Base, tenant: str) -> None:
    done = await operator("tenant", "quota", tenant, "--max-agents", "7", "--weight", "3")
    assert done.code == 0, done.err
    assert "max_agents      7" in done.out.splitlines()
    quota = await base.tenants.quota(tenant)
    assert (quota.max_agents, quota.weight) == (7, 3)
    shown = await operator("tenant", "quota", tenant, "-o", "json")
    assert shown.document == {"tenant": tenant, **quota.model_dump()}
    await operator("tenant", "quota", tenant, "--reset", "--weight", "2")
    quota = await base.tenants.quota(tenant)
    assert (quota.max_agents, quota.weight) == (0, 2)
    assert len([1 async for _ in base.of(tenant).recorder.read()]) == 2, "what is only shown is no event"


async def test_the_fleets_defaults_are_shown_where_a_quota_says_nothing(operator: Shell, tenant: str) -> None:
    shell = replace(operator, environment={**operator.environment, "CHIMERA_TENANT_MAX_AGENTS": "40"})
    assert json.loads((await shell("tenant", "quota", tenant, "-o", "json")).out)["max_agents"] == 40


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("quota", "no-such"), "there is no tenant 'no-such': `chimera tenant list`"),
        (("add", "Big Corp"), "is no name for a tenant"),
    ],
)
async def test_what_cannot_be_says_why_and_exits_2(
    operator: Shell, command: tuple[str, ...], said: str
) -> None:
    done = await operator("tenant", *command)
    assert (done.code, said in done.err) == (2, True), done.err


async def test_without_a_fleet_it_says_where_tenants_are(shell: Shell) -> None:
    done = await shell("tenant", "list")
    assert done.code == 2
    assert "set CHIMERA_REDIS_URL" in done.err
