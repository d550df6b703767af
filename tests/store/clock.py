"""A clock that tests set: the scripts are as they are but for the line that reads Redis's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest

from chimera.runtime.base import Base
from chimera.store.keys import TenantKeys
from chimera.store.scripts import source

REAL = """  local t = redis.call("TIME")
  instant = t[1] * 1000000 + t[2]
  return instant
"""
BY_HAND = """  return tonumber(redis.call("GET", KEYS[1] .. "clock"))
"""


@contextmanager
def set_by_hand() -> Iterator[None]:
    """Scripts that are loaded inside read the tenant's clock of `set_to`."""

    def by_hand(name: str) -> str:
        return source(name).replace(REAL, BY_HAND)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chimera.store.scripts.source", by_hand)
        patch.setattr(
            "chimera.store.scripts.digest",
            lambda name: hashlib.sha1(by_hand(name).encode(), usedforsecurity=False).hexdigest(),
        )
        yield


async def set_to(base: Base, tenant: str, now: datetime) -> None:
    """What time it is for a tenant."""
    await base.redis.set(f"{TenantKeys(tenant).root}clock", round(now.timestamp() * 1e6))
