"""Keys for tests: each acts for a tenant, with the scopes that are asked for."""

from __future__ import annotations

from chimera.core.scope import USUAL, Scope
from chimera.runtime.base import Base
from chimera.store.apikeys import new_key


async def key_of(base: Base, tenant: str, *scopes: Scope) -> str:
    """A new key of the tenant; with the usual scopes where none are named."""
    key = new_key()
    await base.api_keys.let_in(tenant, key, scopes or USUAL)
    return key
