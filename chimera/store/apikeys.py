"""API keys: whose each is and what it may do. A key is shown once; only its SHA-256 is kept.

One fast hash suffices: a key has 256 random bits, so whoever reads the digests has nothing to guess. It is
looked up by its digest, so how long that takes tells nothing of a key: nobody can choose how a digest begins.
What was found is compared once more, in constant time: nothing rests on how the store looks it up.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chimera.core.scope import FLEET, USUAL, Scope, shown
from chimera.errors import Unauthorized
from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.scripts import Scripts

RECOGNISED_S = 1.0
"""A key that was taken away may be let in for so long, by each gateway."""
MOST_RECOGNISED = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    Attributes:
        tenant: whose key it is; `FLEET` of the whole fleet's.
        scopes: what it may do.
    """

    tenant: str
    key_id: str
    scopes: frozenset[Scope] = USUAL

    def __str__(self) -> str:
        return f"key:{self.key_id}"

    @property
    def of_fleet(self) -> bool:
        """Whether it acts for the whole fleet, and so for no tenant."""
        return self.tenant == FLEET


def new_key() -> str:
    """A key of 256 random bits."""
    return f"chi_{secrets.token_urlsafe(32)}"


class ApiKeys:
    """All keys."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._recognised: dict[str, tuple[Principal, float]] = {}

    async def let_in(self, tenant: str, key: str, scopes: Iterable[Scope] = USUAL) -> None:
        """Let a key act for a tenant; idempotent."""
        record = {"tenant": tenant, "key_id": digest(key)[:8], "scopes": shown(scopes), "sha256": digest(key)}
        await self._scripts.run("set_key", [keys.API_KEYS], digest(key), json.dumps(record))

    async def recognise(self, key: str) -> Principal:
        """Whose key this is, or was at most `RECOGNISED_S` ago: of a key in use, Redis is asked once in that.

        Raises:
            Unauthorized: nobody's; of that nothing is remembered.
        """
        hashed = digest(key)
        principal, until = self._recognised.get(hashed, (None, 0.0))
        asked_at = time.monotonic()
        if principal is None or asked_at >= until:
            principal = await self.authenticate(key)
            if len(self._recognised) >= MOST_RECOGNISED:
                self._recognised.clear()
            self._recognised[hashed] = principal, asked_at + RECOGNISED_S
        return principal

    async def authenticate(self, key: str) -> Principal:
        """Whose key this is.

        Raises:
            Unauthorized: nobody's.
        """
        hashed = digest(key)
        with translated():
            record = await self._redis.hget(keys.API_KEYS, hashed)
        if record is None:
            raise Unauthorized("this key is not known: check CHIMERA_API_KEY")
        with translated():
            return _principal(json.loads(record), hashed)


def _principal(record: dict[str, Any], hashed: str) -> Principal:
    """Raises Unauthorized: the record is another key's."""
    # Records from before there were scopes have neither these nor the digest.
    if not hmac.compare_digest(record.get("sha256", hashed), hashed):
        raise Unauthorized("this key is not known: check CHIMERA_API_KEY")
    scopes = USUAL if "scopes" not in record else frozenset(map(Scope, record["scopes"]))
    return Principal(record["tenant"], record["key_id"], scopes)


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
