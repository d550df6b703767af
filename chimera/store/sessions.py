"""Sessions of people with the dashboard: each stands for the key it was opened with, and ends with it.

The browser holds an id of 256 random bits, Redis its SHA-256, so whoever reads the store can take no session
over. Of the key a session knows the digest alone, and asks each time whose it is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from contextlib import suppress
from dataclasses import dataclass

from chimera.errors import StoreError
from chimera.store import keys
from chimera.store.apikeys import digest
from chimera.store.connection import Redis, translated

LIVES_S = 43_200
"""A session ends when it was not used for so long."""
TOUCHED_S = 600
"""When it was used last is known to within this: it may end so much sooner, and costs fewer writes."""


@dataclass(frozen=True, slots=True)
class Session:
    """A person's session.

    Attributes:
        key_digest: SHA-256 of the key it was opened with.
        tenant: whose key that was; `chimera.core.scope.FLEET` of the whole fleet's.
    """

    session_id: str
    key_digest: str
    tenant: str

    @property
    def csrf(self) -> str:
        """What a page of this session sends with whatever changes something; it tells nothing of the id."""
        return hmac.digest(self.session_id.encode(), b"csrf", hashlib.sha256).hex()


class Sessions:
    """All sessions."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def open(self, key: str, tenant: str) -> Session:
        """Open one for a key that was recognised as the tenant's.

        Raises:
            QueueFull: the store is full.
        """
        session = Session(secrets.token_urlsafe(32), digest(key), tenant)
        record = json.dumps({"sha256": session.key_digest, "tenant": tenant})
        with translated():
            await self._redis.set(_name(session.session_id), record, ex=LIVES_S)
        return session

    async def find(self, session_id: str) -> Session | None:
        """The session of an id, which lives on from now; None: there is none, or it has ended."""
        name = _name(session_id)
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.get(name)
                pipe.ttl(name)
                text, left_s = await pipe.execute()
            if text is None:
                return None
            record = json.loads(text)
            session = Session(session_id, record["sha256"], record["tenant"])
        if left_s < LIVES_S - TOUCHED_S:
            # A store that can be read and not written still shows how things stand.
            with suppress(StoreError), translated():
                await self._redis.expire(name, LIVES_S)
        return session

    async def end(self, session_id: str) -> None:
        """End one; idempotent."""
        with translated():
            await self._redis.delete(_name(session_id))


def _name(session_id: str) -> str:
    return keys.session(digest(session_id))
