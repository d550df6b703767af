"""Who leads a tenant's swarm from another cluster, and how far its login reaches."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera.errors import ConfigurationError, StoreError
from chimera.runtime.base import Base, base_of, open_base
from chimera.runtime.users import reconcile
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from chimera.store import keys
from chimera.store.elections import Election
from chimera.store.keys import OWNED, PLAIN, TenantKeys
from chimera.store.scripts import OldTerm
from chimera.store.spokes import SwarmElection
from chimera.store.tasks import Keeper
from chimera.store.users import as_role, login_of
from tests.redis_fixtures import logged_in
from tests.store import drive
from tests.store.test_intruder import CLASSES, SERVER, SHARED, Attempt, every_key, tried
from tests.store.test_repeats import state

WHY = {"backlog": 1}


async def ask(base: Base, tenant: str, spoke: bool = True) -> None:
    await base.tenants.set_quota(tenant, {"spoke": spoke}, uuid.uuid4().hex, by="t")


async def lapse(base: Base, tenant: str) -> None:
    """The lease of whoever leads has run out."""
    await base.redis.hset(base.of(tenant).tasks.keys.spoke, "until", 1)


async def scaled(base: Base, tenant: str, workers: int, term: int, role: Keeper = "spoke") -> bool:
    return await base.of(tenant).tasks.scaled(workers, why=WHY, term=term, by="s", role=role)


async def test_one_spoke_leads_until_its_lease_ends_and_the_next_under_a_higher_term(
    base: Base, tenant: str
) -> None:
    await ask(base, tenant)
    election = SwarmElection(base.redis, tenant, "there")
    assert await election.lead("a", ttl_s=30) == 1
    assert await election.lead("b", ttl_s=30) is None
    assert await election.lead("a", ttl_s=30) == 1, "kept"
    assert await election.leader() == "a"
    await lapse(base, tenant)
    assert await election.leader() is None
    assert await election.lead("b", ttl_s=30) == 2
    await election.resign("a")
    assert await election.leader() == "b", "it is another's to give up"
    await election.resign("b")
    assert await election.leader() is None
    assert await election.lead("a", ttl_s=30) == 3
    assert await drive.kinds(base.of(tenant), "spoke.") == [
        "spoke.led",
        "spoke.led",
        "spoke.left",
        "spoke.led",
    ]


async def test_a_tenant_whose_quota_asks_for_none_has_no_spoke(base: Base, tenant: str) -> None:
    election = SwarmElection(base.redis, tenant)
    assert await election.lead("a", ttl_s=30) is None
    assert election.refused
    await ask(base, tenant)
    assert await election.lead("a", ttl_s=30) == 1
    assert not election.refused
    await ask(base, tenant, spoke=False)
    assert await election.lead("a", ttl_s=30) is None
    assert (election.refused, await election.leader()) == (True, None)


async def test_workers_are_scaled_by_whoever_keeps_them_under_its_newest_term(
    base: Base, tenant: str
) -> None:
    hub = drive.TERM
    assert await scaled(base, tenant, 2, hub, "orchestrator")
    assert not await scaled(base, tenant, 3, 0), "no spoke is asked for"
    await ask(base, tenant)
    assert await scaled(base, tenant, 0, hub, "orchestrator"), "until one leads the hub drains what it has"
    election = SwarmElection(base.redis, tenant)
    assert await election.lead("a", ttl_s=30) == 1
    assert await scaled(base, tenant, 4, 1)
    assert not await scaled(base, tenant, 0, hub, "orchestrator"), "they are the spoke's to keep"
    await lapse(base, tenant)
    assert await election.lead("b", ttl_s=30) == 2
    with pytest.raises(OldTerm):
        await scaled(base, tenant, 9, 1)
    assert await scaled(base, tenant, 5, 2)
    assert not await scaled(base, tenant, 5, 2), "it wanted as many before"
    assert await base.redis.get(base.of(tenant).tasks.keys.wanted) == "5"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("lead"), st.sampled_from("abc")),
        st.tuples(st.just("resign"), st.sampled_from("abc")),
        st.tuples(st.sampled_from(["lapse", "ask", "refuse"]), st.just("")),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
async def test_in_any_order_of_calls_one_leads_at_most_and_terms_only_grow(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, steps: list[tuple[str, str]]
) -> None:
    base = await open_base(load(redis_url=redis_server.url, state_dir=tmp_path_factory.getbasetemp()))
    tenant = f"in-any-order-{len(await base.tenants.names())}"
    await base.tenants.add(tenant)
    election, leader, term, asked = SwarmElection(base.redis, tenant), "", 0, False
    try:
        for step, who in steps:
            match step:
                case "lead":
                    led = await election.lead(who, ttl_s=30)
                    if not asked:
                        leader = "" if leader == who else leader
                    elif leader in {"", who}:
                        leader, term = who, term + (leader != who)
                    assert led == (term if asked and leader == who else None)
                    assert election.refused is not asked
                case "resign":
                    await election.resign(who)
                    leader = "" if leader == who else leader
                case "lapse":
                    await lapse(base, tenant)
                    leader = ""
                case _:
                    asked = step == "ask"
                    await ask(base, tenant, spoke=asked)
            assert (await election.leader() or "") == leader
    finally:
        await base.redis.delete(*(key for _, key in every_key(tenant)))
        await base.tenants.remove(tenant)
        await base.close()


def test_a_spoke_can_derive_its_workers_login_and_nobody_elses(tmp_path: Path) -> None:
    hub = load(redis_url="redis://:admin@h/0", redis_users="roles", redis_secret="s" * 32, redis_generation=3)
    given_ = as_role(hub, "spoke", "acme").redis_url
    assert given_ is not None
    for own in (
        load(redis_url=given_.get_secret_value()),
        load(redis_url=given_.get_secret_value(), redis_users="roles"),
        load(
            redis_url="redis://chimera.spoke.acme@h/0",
            redis_password=login_of(as_role(hub, "spoke", "acme"))[1],
        ),
    ):
        assert as_role(own, "worker", "acme").redis_url == as_role(hub, "worker", "acme").redis_url
        assert as_role(own, "worker", "acme").redis_password is None
        for role, whose in (("worker", "other"), ("spoke", "other"), ("judge", "")):
            with pytest.raises(ConfigurationError, match=r"as chimera\.spoke\.acme"):
                as_role(own, role, whose)  # type: ignore[arg-type]  # (they are such words)
    assert "s" * 32 not in given_.get_secret_value()


async def test_workers_and_spokes_of_both_generations_log_in(base: Base, tenant: str) -> None:
    raised = base.settings.model_copy(update={"redis_generation": 2})
    async with AsyncExitStack() as stack:
        newer = base_of(raised)
        stack.push_async_callback(newer.close)
        await reconcile(newer)
        for settings_ in (base.settings, raised):
            async with logged_in(settings_, "spoke", tenant) as spoke:
                assert await spoke.redis.get(keys.SCHEMA)
                async with logged_in(spoke.settings, "worker", tenant) as worker:
                    assert await worker.redis.ping()
    await reconcile(base)


READS = {"GET", "HGET", "HGETALL", "LLEN", "ZRANGE"}
WRITES = {*READS, "HSET", "HDEL", "INCRBY", "RPUSH", "ZADD", "ZREM", "EXPIRE", "EVALSHA", "SET"}
QUEUE = {
    "workers",
    "worker",
    "leases",
    "suspects",
    "task",
    "counts",
    "open",
    "depth",
    "bell",
    "ready",
    "high",
}
WRITTEN = {*QUEUE, "normal", "fallen", "dirty", "requests", "spoke", "wanted", "scaled"}


def may(name: str, command: str) -> bool:
    """What a spoke may do to a key of its own tenant: written down here once more, apart from the rights."""
    if name in WRITTEN:
        return command in WRITES
    if name in {"mission", "quota", "sequence", "later"}:
        return command in READS or (name, command) == ("sequence", "INCRBY")
    return (name, command) == ("log", "XADD")


async def test_a_spoke_does_to_its_own_keys_what_it_needs_and_nothing_more(base: Base, tenant: str) -> None:
    """It reads no input, result, verdict or reply and no figure of money, and writes no term of the hub's."""
    wanted, attempts = [], []
    for name, key in every_key(tenant):
        for said, command in CLASSES.items():
            attempts.append([0, *(key if word == "KEY" else word for word in command)])
            wanted.append((said, name, may(name, command[0])))
    answers = await tried([as_role(base.settings, "spoke", tenant)], attempts)
    for (said, name, allowed), answer in zip(wanted, answers, strict=True):
        assert (answer != "NOPERM") is allowed, f"{said} {name}: {answer}"
    assert {name for _, name, allowed in wanted if not allowed} == {*PLAIN, *OWNED}


@pytest.mark.parametrize("other", ["other", "{tenant}b", "{tenant}-2", "{first}", "chimera:fleet"])
async def test_a_spoke_reaches_no_key_of_another_tenant(base: Base, tenant: str, other: str) -> None:
    other = other.format(tenant=tenant, first=tenant[:-1])
    of_other = TenantKeys(other)
    await base.redis.hset(of_other.of("task", "m1.0"), "status", "READY")
    before = await state(base, other)
    attempts: list[Attempt] = [
        [0, *(key if word == "KEY" else word for word in command)]
        for _, key in (*every_key(other), ("root", of_other.root))
        for command in CLASSES.values()
    ]
    answers = await tried([as_role(base.settings, "spoke", tenant)], attempts)
    assert set(answers) == {"NOPERM"}
    assert await state(base, other) == before
    await base.redis.delete(of_other.of("task", "m1.0"))


async def test_a_spoke_reaches_nothing_of_the_fleet_or_the_server_but_the_schema(
    base: Base, tenant: str
) -> None:
    attempts: list[Attempt] = [[0, *command] for command in SERVER]
    attempts += [
        [0, *(key if word == "KEY" else word for word in command)]
        for key in (*SHARED, *(keys.leader(role) for role in ("orchestrator", f"spoke of {tenant}")))
        for command in CLASSES.values()
    ]
    answers = await tried([as_role(base.settings, "spoke", tenant)], attempts)
    refused = {"NOPERM", next(said for said in answers if "DEBUG command not allowed" in said)}
    through = [attempt[1:] for said, attempt in zip(answers, attempts, strict=True) if said not in refused]
    assert {one[1] for one in through} == {keys.SCHEMA}
    assert {one[0] for one in through} <= READS
    async with logged_in(base.settings, "spoke", tenant) as at:
        with pytest.raises(StoreError, match="forbids"):
            await Election(at.redis, "orchestrator").lead("s", ttl_s=30)
        with pytest.raises(StoreError, match="forbids"):
            await SwarmElection(at.redis, f"{tenant}b").lead("s", ttl_s=30)


async def test_a_spoke_hears_of_nobody_but_its_own_tenant(base: Base, tenant: str) -> None:
    """Of its load; and, as Redis does not tell them apart, of what it may speak of itself: its missions."""
    own = keys.channel(keys.LOAD, tenant)
    others = [keys.channel(keys.LOAD, "*"), keys.channel(keys.LOAD, f"{tenant}2"), keys.LOAD]
    others += [keys.channel(one, tenant) for one in (keys.ERRANDS, keys.MONEY, keys.USERS, keys.REVIEWS)]
    attempts: list[Attempt] = [[0, "PSUBSCRIBE", one] for one in (own, *others)]
    attempts += [[0, "PUBLISH", keys.channel(one, f"{tenant}2"), ""] for one in (keys.LOAD, keys.MISSIONS)]
    attempts += [[0, "PUBLISH", keys.channel(one, tenant), ""] for one in (keys.MONEY, keys.USERS)]
    heard, *rest = [
        (await tried([as_role(base.settings, "spoke", tenant)], [attempt]))[0] for attempt in attempts
    ]
    assert heard != "NOPERM"
    assert set(rest) == {"NOPERM"}
