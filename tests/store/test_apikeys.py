"""Whose key it is."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chimera.core.scope import ALL, FLEET, Scope
from chimera.errors import AlreadyExists, Conflict, InvalidRequest, NotFound, StoreUnavailable, Unauthorized
from chimera.runtime.base import Base
from chimera.store import apikeys, keys
from chimera.store.apikeys import Principal
from tests.keys import key_of
from tests.store.test_tenants import acts


@pytest.fixture
async def key(base: Base, tenant: str) -> str:
    await base.tenants.add(tenant)
    return await key_of(base, tenant)


async def test_a_key_in_use_is_looked_up_once_in_a_while(
    base: Base, tenant: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await base.api_keys.recognise(key)).tenant == tenant
    await base.redis.hdel(keys.API_KEYS, apikeys.digest(key))
    assert (await base.api_keys.recognise(key)).tenant == tenant
    monkeypatch.setattr(apikeys, "RECOGNISED_S", 0.0)
    base.api_keys._recognised.clear()
    with pytest.raises(Unauthorized):
        await base.api_keys.recognise(key)


async def test_what_was_remembered_ends(
    base: Base, tenant: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apikeys, "RECOGNISED_S", 0.0)
    assert (await base.api_keys.recognise(key)).tenant == tenant
    await base.redis.hdel(keys.API_KEYS, apikeys.digest(key))
    with pytest.raises(Unauthorized):
        await base.api_keys.recognise(key)


async def test_of_a_key_that_is_nobodys_nothing_is_remembered(base: Base, tenant: str, key: str) -> None:
    made = f"chi_{uuid.uuid4().hex}"
    with pytest.raises(Unauthorized):
        await base.api_keys.recognise(made)
    await base.api_keys.let_in(tenant, made)
    assert (await base.api_keys.recognise(made)).tenant == tenant


async def test_so_many_keys_are_remembered(
    base: Base, tenant: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apikeys, "MOST_RECOGNISED", 2)
    for _ in range(5):
        await base.api_keys.recognise(await key_of(base, tenant))
    assert len(base.api_keys._recognised) <= 2


async def test_a_key_from_before_there_were_scopes_has_all_but_limits(base: Base, tenant: str) -> None:
    old = f"chi_{uuid.uuid4().hex}"
    record = json.dumps({"tenant": tenant, "key_id": "0badcafe"})
    await base.redis.hset(keys.API_KEYS, apikeys.digest(old), record)
    principal = await base.api_keys.authenticate(old)
    assert principal == Principal(tenant, "0badcafe", ALL - {Scope.LIMITS})


async def test_a_record_under_another_keys_digest_lets_nobody_in(base: Base, tenant: str, key: str) -> None:
    record = await base.redis.hget(keys.API_KEYS, apikeys.digest(key))
    assert record is not None
    await base.redis.hset(keys.API_KEYS, apikeys.digest("chi_chosen"), record)
    with pytest.raises(Unauthorized):
        await base.api_keys.authenticate("chi_chosen")


async def test_a_key_is_shown_once_and_never_listed_or_recorded(base: Base, tenant: str) -> None:
    made = await base.api_keys.create(
        tenant, "a", by="o", scopes={Scope.READ}, name="ci", lives_s=3_600, requests_per_s=5, reason="for CI"
    )
    (listed,) = await base.api_keys.list(tenant)
    assert listed.key_id == made.record.key_id
    assert (listed.name, listed.scopes, listed.requests_per_s) == ("ci", frozenset({Scope.READ}), 5.0)
    assert 3_590 < listed.expires_at - listed.created_at <= 3_601
    everything = await everything_in(base)
    assert made.key not in everything
    assert made.key.removeprefix("chi_") not in everything
    with pytest.raises(AlreadyExists, match=f"key {listed.key_id} was made by this operation"):
        await base.api_keys.create(tenant, "a", by="o", scopes={Scope.READ})
    assert await acts(base, tenant) == [("key.created", "o", "for CI")]


async def test_a_key_that_has_ended_lets_nobody_in(base: Base, tenant: str) -> None:
    made = await base.api_keys.create(tenant, "a", by="o", lives_s=60)
    assert (await base.api_keys.recognise(made.key)).key_id == made.record.key_id
    await end_key(base, made.key)
    base.api_keys._recognised.clear()
    with pytest.raises(Unauthorized, match=f"key {made.record.key_id} has ended"):
        await base.api_keys.recognise(made.key)
    assert made.record.key_id in [one.key_id for one in await base.api_keys.list(tenant)]


async def test_what_is_remembered_of_a_key_ends_with_the_key(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apikeys, "RECOGNISED_S", 1_000.0)
    made = await base.api_keys.create(tenant, "a", by="o", lives_s=60)
    asked_at = time.monotonic()
    await base.api_keys.recognise(made.key)
    _, until = base.api_keys._recognised[apikeys.digest(made.key)]
    assert until - asked_at <= 61


async def test_a_rotated_key_is_good_for_the_overlap_beside_the_new_one(base: Base, tenant: str) -> None:
    old = await base.api_keys.create(tenant, "a", by="o", scopes={Scope.SUBMIT}, name="ci", requests_per_s=3)
    new = await base.api_keys.rotate(tenant, old.record.key_id, "b", by="o", overlap_s=600, reason="yearly")
    for one in (old, new):
        principal = await base.api_keys.authenticate(one.key)
        assert (principal.scopes, principal.requests_per_s) == (frozenset({Scope.SUBMIT}), 3.0)
    ends = {one.key_id: one.expires_at for one in await base.api_keys.list(tenant)}
    assert 590 < ends[old.record.key_id] - time.time() <= 601
    assert ends[new.record.key_id] == 0
    (_, said) = (await base.audit.of_tenant(base.of(tenant).recorder))[0]
    assert said.details["key_id"] == old.record.key_id
    assert said.details["new"] == new.record.key_id
    with pytest.raises(AlreadyExists):
        await base.api_keys.rotate(tenant, old.record.key_id, "b", by="o", overlap_s=600)
    assert len(await acts(base, tenant)) == 2


async def test_without_an_overlap_the_old_key_ends_at_once(base: Base, tenant: str) -> None:
    old = await base.api_keys.create(tenant, "a", by="o")
    new = await base.api_keys.rotate(tenant, old.record.key_id, "b", by="o", overlap_s=0)
    with pytest.raises(Unauthorized, match="has ended"):
        await base.api_keys.authenticate(old.key)
    assert (await base.api_keys.authenticate(new.key)).tenant == tenant


async def test_a_rotation_makes_no_key_live_longer(base: Base, tenant: str) -> None:
    old = await base.api_keys.create(tenant, "a", by="o", lives_s=60)
    await base.api_keys.rotate(tenant, old.record.key_id, "b", by="o", overlap_s=3_600)
    assert (await base.api_keys.get(tenant, old.record.key_id)).expires_at - time.time() <= 60


async def test_a_rotated_key_has_as_long_to_live_as_the_first_was_made_for(base: Base, tenant: str) -> None:
    key_id = (await base.api_keys.create(tenant, "a", by="o", lives_s=86_400)).record.key_id
    for operation in ("b", "c"):  # the overlap of the first one shortens nothing for the second
        new = await base.api_keys.rotate(tenant, key_id, operation, by="o", overlap_s=60)
        kept = await base.api_keys.get(tenant, new.record.key_id)
        assert kept.expires_at == new.record.expires_at
        assert 86_390 < kept.expires_at - time.time() <= 86_400


async def test_a_revoked_key_is_gone_with_all_that_was_known_of_it(base: Base, tenant: str) -> None:
    made = await base.api_keys.create(tenant, "a", by="o")
    await base.api_keys.recognise(made.key)
    await base.api_keys.revoke(tenant, made.record.key_id, "b", by="o", reason="leaked")
    with pytest.raises(Unauthorized):
        await base.api_keys.recognise(made.key)
    assert apikeys.digest(made.key) not in await everything_in(base)
    with pytest.raises(NotFound):
        await base.api_keys.revoke(tenant, made.record.key_id, "c", by="o")
    assert (await acts(base, tenant))[-1] == ("key.revoked", "o", "leaked")
    assert len(await acts(base, tenant)) == 2


async def test_a_key_is_nobody_elses_to_list_rotate_or_revoke(base: Base, tenant: str) -> None:
    made = await base.api_keys.create(tenant, "a", by="o")
    other = f"{tenant}-other"
    assert await base.api_keys.list(other) == []
    for act in (base.api_keys.rotate, base.api_keys.revoke):
        with pytest.raises(NotFound):
            await act(other, made.record.key_id, "b", by="o")
    assert (await base.api_keys.authenticate(made.key)).tenant == tenant
    assert await acts(base, other) == []


async def test_a_key_says_when_it_was_used_and_asks_redis_once_a_minute(base: Base, tenant: str) -> None:
    made = await base.api_keys.create(tenant, "a", by="o")
    assert (await base.api_keys.list(tenant))[0].used_at == 0
    await base.api_keys.recognise(made.key)
    used = (await base.api_keys.list(tenant))[0].used_at
    assert abs(used - time.time()) < 5
    await base.redis.hdel(keys.KEYS_USED, apikeys.digest(made.key))
    base.api_keys._recognised.clear()
    await base.api_keys.recognise(made.key)
    assert (await base.api_keys.list(tenant))[0].used_at == 0, "not again within the minute"


async def test_keys_from_before_there_was_an_index_are_listed_and_revoked(base: Base, tenant: str) -> None:
    old = f"chi_{uuid.uuid4().hex}"
    record = json.dumps({"tenant": tenant, "key_id": "0badcafe"})
    await base.redis.hset(keys.API_KEYS, apikeys.digest(old), record)
    await base.redis.hdel(keys.KEYS_USED, apikeys.ADOPTED)
    assert [one.key_id for one in await base.api_keys.list(tenant)] == ["0badcafe"]
    await base.api_keys.revoke(tenant, "0badcafe", "a", by="o")
    with pytest.raises(Unauthorized):
        await base.api_keys.authenticate(old)


async def test_a_tenant_has_so_many_keys_and_ended_ones_make_room(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apikeys, "MOST_KEYS", 2)
    first = await base.api_keys.create(tenant, "a", by="o", lives_s=60)
    await base.api_keys.create(tenant, "b", by="o")
    with pytest.raises(Conflict, match="revoke some first"):
        await base.api_keys.create(tenant, "c", by="o")
    assert len(await acts(base, tenant)) == 2, "what was refused is no act"
    await base.api_keys.rotate(tenant, first.record.key_id, "r", by="o")
    await end_key(base, first.key, ago_s=apikeys.FORGOTTEN_S + 60)
    await base.api_keys.revoke(tenant, (await base.api_keys.list(tenant))[-1].key_id, "x", by="o")
    await base.api_keys.create(tenant, "d", by="o")
    assert first.record.key_id not in [one.key_id for one in await base.api_keys.list(tenant)]


async def test_rotations_make_no_more_keys_than_there_may_be(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apikeys, "MOST_KEYS", 2)
    key_id = (await base.api_keys.create(tenant, "a", by="o")).record.key_id
    for number in range(3):
        await base.api_keys.rotate(tenant, key_id, f"r{number}", by="o", overlap_s=3_600)
    with pytest.raises(Conflict, match="revoke some first"):
        await base.api_keys.rotate(tenant, key_id, "r", by="o", overlap_s=3_600)
    assert len(await base.api_keys.list(tenant)) == len(await acts(base, tenant)) == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scopes": ()}, "a key needs one"),
        ({"name": "x" * 101}, "100 characters"),
        ({"lives_s": 0.0}, "expires"),
        ({"lives_s": float("nan")}, "expires"),
        ({"requests_per_s": -1.0}, "requests_per_s"),
    ],
)
async def test_what_a_key_cannot_be_makes_none(
    base: Base, tenant: str, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await base.api_keys.create(tenant, "a", by="o", **wrong)
    assert await base.api_keys.list(tenant) == []


async def test_a_key_that_the_environment_names_stays_rotated(base: Base, tenant: str, key: str) -> None:
    key_id = (await base.api_keys.list(tenant))[0].key_id
    await base.api_keys.rotate(tenant, key_id, "a", by="o", overlap_s=0)
    await base.api_keys.let_in(tenant, key)
    with pytest.raises(Unauthorized):
        await base.api_keys.authenticate(key)


async def test_a_key_that_another_was_rotated_to_stays_what_it_is_when_the_environment_names_it(
    base: Base, tenant: str
) -> None:
    old = await base.api_keys.create(tenant, "a", by="o", scopes=[Scope.READ], name="ci", lives_s=900)
    new = await base.api_keys.rotate(tenant, old.record.key_id, "b", by="o", overlap_s=0)
    before = await base.api_keys.list(tenant)
    await base.api_keys.let_in(tenant, new.key)
    assert await base.api_keys.list(tenant) == before
    assert (await base.api_keys.authenticate(new.key)).scopes == {Scope.READ}


async def test_a_damaged_record_of_the_environments_key_is_written_anew(
    base: Base, tenant: str, key: str
) -> None:
    await base.redis.hset(keys.API_KEYS, apikeys.digest(key), "{")
    await base.api_keys.let_in(tenant, key)
    assert (await base.api_keys.authenticate(key)).tenant == tenant


async def test_acts_on_the_fleets_keys_are_kept_apart_and_paged(base: Base) -> None:
    before, _ = await base.audit.of_fleet(most=1_000)
    names = [uuid.uuid4().hex for _ in range(3)]
    for name in names:
        await base.api_keys.create(FLEET, name, by="o", scopes=ALL, name=name)
    seen, after = list[str](), ""
    while True:
        events, following = await base.audit.of_fleet(after=after, most=2)
        seen += [event.details.get("name", "") for event in events]
        if following is None:
            break
        after = following
    assert seen[len(before) :] == names
    for one in await base.api_keys.list(FLEET):
        await base.api_keys.revoke(FLEET, one.key_id, uuid.uuid4().hex, by="o")


async def test_an_act_that_a_crash_cut_is_completed_by_its_repetition_and_recorded_once(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = base.api_keys._scripts.run

    async def cut(name: str, *args: Any) -> Any:
        if name in {"make_key", "revoke_keys"}:
            raise StoreUnavailable("the process died here")
        return await run(name, *args)

    async def crashed(act: Callable[[], Awaitable[Any]]) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(base.api_keys._scripts, "run", cut)
            with pytest.raises(StoreUnavailable):
                await act()
        return await act()

    made = await crashed(lambda: base.api_keys.create(tenant, "a", by="o"))
    key_id = made.record.key_id
    new = await crashed(lambda: base.api_keys.rotate(tenant, key_id, "b", by="o"))
    await crashed(lambda: base.api_keys.revoke(tenant, key_id, "c", by="o"))
    assert [one.key_id for one in await base.api_keys.list(tenant)] == [new.record.key_id]
    assert [kind for kind, _, _ in await acts(base, tenant)] == ["key.created", "key.rotated", "key.revoked"]


async def test_an_operation_makes_its_key_no_second_time_after_that_was_revoked(
    base: Base, tenant: str
) -> None:
    made = await base.api_keys.create(tenant, "a", by="o", scopes={Scope.READ})
    await base.api_keys.revoke(tenant, made.record.key_id, "b", by="o")
    with pytest.raises(AlreadyExists):
        await base.api_keys.create(tenant, "a", by="o", scopes=ALL)
    await base.api_keys.create(tenant, "c", by="o")
    with pytest.raises(AlreadyExists):
        await base.api_keys.create(tenant, "a", by="o", scopes=ALL)
    assert len(await base.api_keys.list(tenant)) == 1
    kinds = [kind for kind, _, _ in await acts(base, tenant)]
    assert kinds == ["key.created", "key.revoked", "key.created"], "no key without an entry"


async def test_what_a_key_may_do_stands_in_its_entry_when_a_cut_operation_comes_again_for_more(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(base.api_keys, "_put", None)
        with pytest.raises(TypeError):
            await base.api_keys.create(tenant, "a", by="o", scopes={Scope.READ})
    await base.api_keys.create(tenant, "a", by="o", scopes={Scope.READ, Scope.ADMIN})
    events, _ = await base.audit.of_tenant(base.of(tenant).recorder)
    assert [event.details["scopes"] for event in events] == ["read", "read,admin"]


async def everything_in(base: Base) -> str:
    """All that Redis holds of keys and recorders, as text."""
    found = [str(await base.redis.hgetall(keys.API_KEYS)), str(await base.redis.hgetall(keys.KEYS_USED))]
    found += [str(await base.redis.xrange(name)) async for name in base.redis.scan_iter(match="*r:log")]
    indices = base.redis.scan_iter(match="{chimera:keys}:of:*")
    found += [str(await base.redis.hgetall(name)) async for name in indices]
    return "".join(found)


async def end_key(base: Base, key: str, ago_s: float = 1) -> None:
    """Its end comes."""
    record = json.loads(await base.redis.hget(keys.API_KEYS, apikeys.digest(key)))
    record["expires_at"] = int(time.time() - ago_s)
    await base.redis.hset(keys.API_KEYS, apikeys.digest(key), json.dumps(record))
