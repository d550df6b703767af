"""Whose key it is."""

from __future__ import annotations

import json
import uuid

import pytest

from chimera.core.scope import ALL, Scope
from chimera.errors import Unauthorized
from chimera.runtime.base import Base
from chimera.store import apikeys, keys
from chimera.store.apikeys import Principal
from tests.keys import key_of


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
