"""What each role's user may do, shown by every script: those that it runs, and what else it could.

The calls are those of `test_repeats`: each is staged by the operator and made by a role.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest

from chimera.errors import StoreError
from chimera.runtime.base import Base
from chimera.runtime.users import reconcile
from chimera.store import keys
from chimera.store.elections import Election
from chimera.store.rights import (
    COMMANDS,
    NARROW,
    RIGHTS,
    ROLES,
    TENANTS,
    Role,
    commands,
    commands_of,
    rules,
)
from chimera.store.scripts import source
from tests.redis_fixtures import logged_in
from tests.render_users import USERS, rendered
from tests.store.test_repeats import CASES, Case, outcome, plain

SCRIPTS = sorted(
    path.name.removesuffix(".lua")
    for path in (files("chimera.store") / "lua").iterdir()
    if path.name.endswith(".lua")
)
HUBS = ("spoke", "scale")
"""A spoke scales as a spoke, under its own term: not as the hub, whose term it cannot write."""
OURS: list[Any] = [
    pytest.param(role, one, id=f"{role}-{one.script}-{one.name}")
    for role in ROLES
    for one in CASES
    if one.script in RIGHTS[role].scripts and one.script != "elect_leader" and (role, one.name) != HUBS
]
"""Each role with each call of a script that it runs."""

COULD: dict[Role, str] = {
    "gateway": """
        check_block claim_actions commit_verdicts drain_worker end_attempts forget_replies leave_worker
        mark_mission prune_mission release_worker renew_leases renew_reviews report_actions rescue_leases
        return_reviews revive_tasks settle_dead settle_mission submit_results
    """,
    "orchestrator": """
        cancel_mission claim_reviews claim_tasks end_attempts forget_replies leave_worker purge_tenant
        read_results renew_leases renew_reviews return_reviews send_holds submit_results weigh_burn
    """,
    "judge": """
        cancel_mission check_block claim_actions claim_tasks drain_worker end_attempts leave_worker
        mark_mission pass_failures read_results release_worker renew_leases report_actions
        rescue_leases settle_mission submit_results
    """,
    "governor": """
        check_block drain_worker leave_worker renew_leases renew_reviews return_reviews send_holds
        settle_mission
    """,
    "dashboard": """
        check_block settle_mission weigh_burn
    """,
    "worker": """
        check_block claim_reviews drain_worker release_worker renew_reviews rescue_leases
        return_reviews
    """,
    "spare": "",
    "spoke": "check_block leave_worker",
}
"""Scripts that a role does not run, and which its rights let through in all of their cases."""


async def called(one: Case, base: Base, role: Role, tenant: str) -> tuple[Any, str]:
    """What a call answers, made by a role: staged by the operator for a tenant of its own."""
    await base.tenants.add(tenant)
    call = await one.stage(base, tenant)
    await reconcile(base)
    async with logged_in(base.settings, role, tenant if role in TENANTS else "") as at:
        answer = await outcome(call, at, tenant)
    await base.tenants.remove(tenant)
    return answer, plain(answer, tenant)


@pytest.mark.parametrize(("role", "one"), OURS)
async def test_a_role_runs_its_scripts_as_the_operator_would(
    role: Role, one: Case, base: Base, tenant: str
) -> None:
    call = await one.stage(base, f"{tenant}-o")
    expected = await outcome(call, base, f"{tenant}-o")
    _, answer = await called(one, base, role, f"{tenant}-r")
    assert answer == plain(expected, f"{tenant}-o")


async def test_a_spoke_cannot_scale_as_the_hub_does(base: Base, tenant: str) -> None:
    (one,) = [case for case in CASES if case.name == "scale"]
    answer, _ = await called(one, base, "spoke", f"{tenant}-r")
    assert "forbids" in str(answer)


@pytest.mark.parametrize("role", ["orchestrator", "judge", "governor"])
async def test_a_leader_is_elected_and_resigns_in_its_own_role_alone(
    role: Role, base: Base, tenant: str
) -> None:
    async with logged_in(base.settings, role) as at:
        mine = Election(at.redis, f"{role} of {tenant}")
        assert await mine.lead("a", ttl_s=30)
        await mine.resign("a")
        assert await mine.leader() is None
        with pytest.raises(StoreError, match="forbids"):
            await Election(at.redis, "another").lead("a", ttl_s=30)


@pytest.mark.parametrize("role", ROLES)
async def test_what_else_a_role_could_run_is_known(role: Role, base: Base, tenant: str) -> None:
    """So that a right which is given too widely is seen, here, by name."""
    could: set[str] = set()
    refused: set[str] = set()
    for number, one in enumerate(CASES):
        if one.script in RIGHTS[role].scripts | refused or one.script == "elect_leader":
            continue
        answer, _ = await called(one, base, role, f"{tenant}-{number}")
        (refused if isinstance(answer, StoreError) else could).add(one.script)
    assert " ".join(sorted(could - refused)) == " ".join(COULD[role].split())


def test_every_script_is_some_roles() -> None:
    assert sorted(frozenset().union(*(rights.scripts for rights in RIGHTS.values()))) == SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_calls_no_command_that_nobody_may_be_given(name: str) -> None:
    code = re.sub(r"--[^\n]*", "", source(name))
    assert set(re.findall(r'redis\.call\("(\w+)"', code)) <= COMMANDS
    assert len(re.findall(r"redis\.p?call\(", code)) == len(
        re.findall(r'redis\.call\((?:"[A-Z]+"|command,|first and "LPUSH" or "RPUSH",)', code)
    ), "a command that cannot be read here"
    assert commands_of(name) >= set(re.findall(r'(?:redis\.call|\ball)\("(\w+)"', code))


def test_no_role_may_do_what_harms_the_server_or_reads_its_secrets() -> None:
    dangerous = {
        "KEYS",
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG",
        "ACL",
        "SCRIPT",
        "DEBUG",
        "MONITOR",
        "CLIENT",
        "SCAN",
    }
    dangerous |= {"FUNCTION", "FCALL", "SHUTDOWN", "RESTORE", "MIGRATE", "RENAME", "COPY", "SORT", "SLOWLOG"}
    assert not dangerous & COMMANDS
    assert all(commands(role) <= COMMANDS for role in ROLES)
    assert [role for role in ROLES if "INFO" in commands(role)] == [
        "gateway",
        "orchestrator",
        "judge",
        "governor",
        "dashboard",
    ]
    assert not {"EVAL", "INFO", "PSUBSCRIBE", "DEL", "UNLINK", "XTRIM", "SET"} & commands("worker")


def test_what_removes_or_trims_is_given_for_named_keys_only() -> None:
    for role in ROLES:
        plain_rules = [rule for rule in rules(role, "a" if role in TENANTS else "") if rule[0] != "("]
        assert not {f"+{one.lower()}" for one in NARROW} & set(plain_rules)


@pytest.mark.parametrize("name", ["*", "a*", "a?", "[ab]", "a}:q:*", "", "a\\", "-a", "A"])
def test_a_name_that_is_none_makes_no_pattern(name: str) -> None:
    if name:
        with pytest.raises(ValueError, match="is no tenant's name"):
            rules("worker", name)
    else:
        assert "~{*}:q:*" in rules("judge")


def test_names_of_keys_in_the_rights_are_those_of_keys() -> None:
    for rights in RIGHTS.values():
        named = {*rights.reads, *rights.writes, *(name for _, names in rights.also for name in names)}
        assert {name for name in named if not re.fullmatch(r"[hqajgr]:\*", name)} <= {
            *keys.PLAIN,
            *keys.OWNED,
        }


def test_the_documents_say_what_the_rights_say() -> None:
    page = USERS.read_text(encoding="utf-8")
    assert rendered(page) == page, "make it anew: python -m tests.render_docs"
    assert all(f"`{role}`" in page for role in ROLES)
