"""Whose key it is."""

from __future__ import annotations

import uuid

import pytest

from chimera.errors import Unauthorized
from chimera.runtime.base import Base
from chimera.store import keys, tenants


@pytest.fixture
async def key(base: Base, tenant: str) -> str:
    await base.tenants.add(tenant)
    return await base.tenants.new_key(tenant)


async def test_a_key_in_use_is_looked_up_once_in_a_while(
    base: Base, tenant: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await base.tenants.recognise(key)).tenant == tenant
    await base.redis.hdel(keys.API_KEYS, tenants._digest(key))
    assert (await base.tenants.recognise(key)).tenant == tenant
    monkeypatch.setattr(tenants, "RECOGNISED_S", 0.0)
    base.tenants._recognised.clear()
    with pytest.raises(Unauthorized):
        await base.tenants.recognise(key)


async def test_what_was_remembered_ends(
    base: Base, tenant: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "RECOGNISED_S", 0.0)
    assert (await base.tenants.recognise(key)).tenant == tenant
    await base.redis.hdel(keys.API_KEYS, tenants._digest(key))
    with pytest.raises(Unauthorized):
        await base.tenants.recognise(key)


async def test_of_a_key_that_is_nobodys_nothing_is_remembered(base: Base, tenant: str, key: str) -> None:
    made = f"chi_{uuid.uuid4().hex}"
    with pytest.raises(Unauthorized):
        await base.tenants.recognise(made)
    await base.tenants.set_key(tenant, made)
    assert (await base.tenants.recognise(made)).tenant == tenant


async def test_so_many_keys_are_remembered(
    base: Base, tenant: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "MOST_RECOGNISED", 2)
    for _ in range(5):
        await base.tenants.recognise(await base.tenants.new_key(tenant))
    assert len(base.tenants._recognised) <= 2
