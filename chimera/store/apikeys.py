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
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from chimera.core.scope import FLEET, USUAL, WORKING, Scope, shown
from chimera.errors import (
    AlreadyExists,
    Conflict,
    InvalidRequest,
    NotFound,
    QueueFull,
    StoreError,
    Unauthorized,
)
from chimera.store import keys
from chimera.store.audit import Audit
from chimera.store.connection import Redis, translated
from chimera.store.scripts import Refusal, Scripts

RECOGNISED_S = 1.0
"""A key that was taken away may be let in for so long, by each gateway."""
NOTED_S = 60.0
"""When a key was used last is known to within this."""
OVERLAP_S = 86_400.0
"""A key in whose place another came is good for so long, unless it is said otherwise."""
MOST_KEYS = 100
"""Keys of one tenant."""
FORGOTTEN_S = 7 * 86_400
"""A key that ended is listed for so long."""
UNKNOWN = (
    "this call needs a key that is known here, as `Authorization: Bearer KEY`: clients take it from "
    "CHIMERA_API_KEY, and `chimera up` prints how to set it"
)
"""Said of a key that is missing and of one that is nobody's alike."""
MOST_RECOGNISED = 10_000
MOST_NAME = 100
MOST_S = 3_650 * 86_400.0
"""A key lives no longer, if it ends at all."""
ADOPTED = "index"
"""Beside the digests: that every key is in its tenant's index."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    Attributes:
        tenant: whose key it is; `FLEET` of the whole fleet's.
        scopes: what it may do.
        requests_per_s: what this key may send, beside the tenant's own rate; 0: no bound.
    """

    tenant: str
    key_id: str
    scopes: frozenset[Scope] = USUAL
    requests_per_s: float = 0.0

    def __str__(self) -> str:
        return f"key:{self.key_id}"

    @property
    def of_fleet(self) -> bool:
        """Whether it acts for the whole fleet, and so for no tenant."""
        return self.tenant == FLEET


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key; the key itself is not.

    Attributes:
        created_at, expires_at, used_at: seconds since the epoch, the store's clock; 0.0: not known, never,
            not yet. `used_at` is right to within `NOTED_S`.
        lives_s: what it was made to live, s, which a rotation leaves as it is; 0.0: without end.
    """

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    name: str = ""
    created_at: float = 0.0
    expires_at: float = 0.0
    used_at: float = 0.0
    requests_per_s: float = 0.0
    lives_s: float = 0.0


class NewKey(NamedTuple):
    """A key that was just made. This is the only time that it is known."""

    record: KeyRecord
    key: str


def new_key() -> str:
    """A key of 256 random bits."""
    return f"chi_{secrets.token_urlsafe(32)}"


class ApiKeys:
    """All keys."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._audit = Audit(redis)
        self._recognised: dict[str, tuple[Principal, float]] = {}
        self._noted: dict[str, float] = {}

    async def let_in(self, tenant: str, key: str, scopes: Iterable[Scope] = USUAL) -> None:
        """Let a key that is given (by the environment) act for a tenant; idempotent.

        One that acts already stays as it is: it may have been rotated since.
        """
        hashed = digest(key)
        record = {"tenant": tenant, "key_id": hashed[:8], "scopes": shown(scopes), "sha256": hashed}
        index = keys.keys_of(tenant)
        await self._scripts.run("set_key", [keys.API_KEYS, index], hashed, hashed[:8], json.dumps(record))

    async def create(
        self,
        tenant: str,
        operation: str,
        *,
        by: str,
        scopes: Iterable[Scope] = WORKING,
        name: str = "",
        lives_s: float | None = None,
        requests_per_s: float = 0.0,
        reason: str = "",
    ) -> NewKey:
        """Make a key for a tenant, or for `FLEET`.

        Args:
            operation: its id: the same again makes no second key.
            lives_s: it ends by itself after this; None: never.
        Raises:
            InvalidRequest: no scope, a name that is too long, a life or rate that cannot be.
            AlreadyExists: this operation made its key before; a key is shown once.
            Conflict: the tenant has `MOST_KEYS`.
        """
        return await self._make(tenant, operation, by, scopes, name, lives_s, requests_per_s, reason)

    async def rotate(
        self,
        tenant: str,
        key_id: str,
        operation: str,
        *,
        by: str,
        overlap_s: float = OVERLAP_S,
        reason: str = "",
    ) -> NewKey:
        """Make a key in another's place, with all that it had; the other lives `overlap_s` yet.

        One that was made to end after 90 days is followed by one that ends 90 days from now.

        Raises:
            InvalidRequest: an overlap that cannot be.
            NotFound: the tenant has no such key.
            AlreadyExists: this operation made its key before.
        """
        old = await self.get(tenant, key_id)
        if not 0 <= overlap_s <= MOST_S:
            raise InvalidRequest(f"an overlap is 0 to {MOST_S / 86_400:,.0f} days")
        lives_s, rate = old.lives_s or None, old.requests_per_s
        return await self._make(
            tenant, operation, by, old.scopes, old.name, lives_s, rate, reason, old, overlap_s
        )

    async def _make(
        self,
        tenant: str,
        operation: str,
        by: str,
        scopes: Iterable[Scope],
        name: str,
        lives_s: float | None,
        requests_per_s: float,
        reason: str,
        old: KeyRecord | None = None,
        overlap_s: float = 0.0,
    ) -> NewKey:
        has = frozenset(scopes)
        _check(has, name, lives_s, requests_per_s)
        # Of the operation, so that its repetition is seen; not of the key, so that it tells nothing of it.
        key_id = digest(f"{old.key_id if old else ''} {operation}")[:12]
        key, expires_at = new_key(), 0
        record: dict[str, Any] = {"tenant": tenant, "key_id": key_id, "scopes": shown(has)}
        if name:
            record["name"] = name
        if requests_per_s:
            record["requests_per_s"] = requests_per_s
        if lives_s is not None:
            expires_at = record["expires_at"] = int(await self._now() + lives_s)
        said = {**record, "scopes": ",".join(shown(has))}
        del said["tenant"]
        index = keys.keys_of(tenant)
        with translated():
            made = await self._redis.hget(index, key_id) is not None
        if not made:
            if old is not None:
                said |= {"key_id": old.key_id, "new": key_id, "overlap_s": overlap_s}
            if await self._has(tenant) >= _most(old):
                raise _too_many(tenant)
            kind = "key.rotated" if old else "key.created"
            # Of what it gives, too: an operation that was cut, and comes again to give more, says so.
            given = digest(json.dumps({**said, "expires_at": lives_s}))[:12]
            await self._audit.note(tenant, kind, f"{operation} {given}", by=by, reason=reason, **said)
            record |= {"sha256": digest(key), **({"lives_s": lives_s} if lives_s else {})}
            made = not await self._put(index, key_id, key, record, old, overlap_s)
        if made:
            raise AlreadyExists(
                f"key {key_id} was made by this operation before, and a key is shown once: rotate it "
                f"(`chimera key rotate {key_id} {flag_of(tenant)}`) where it was not kept"
            )
        return NewKey(
            KeyRecord(
                key_id, tenant, has, name, await self._now(), expires_at, 0.0, requests_per_s, lives_s or 0.0
            ),
            key,
        )

    async def _has(self, tenant: str) -> int:
        forgotten = await self._now() - FORGOTTEN_S
        return sum(not one.expires_at or one.expires_at >= forgotten for one in await self.list(tenant))

    async def _put(
        self,
        index: str,
        key_id: str,
        key: str,
        record: dict[str, Any],
        old: KeyRecord | None,
        overlap_s: float,
    ) -> bool:
        """Whether it was made just now."""
        answer = await self._scripts.run(
            "make_key",
            [keys.API_KEYS, index],
            key_id,
            digest(key),
            json.dumps(record),
            _most(old),
            old.key_id if old else "",
            overlap_s,
            FORGOTTEN_S,
        )
        if answer == Refusal.FULL:
            raise _too_many(record["tenant"])
        if answer == Refusal.MISSING and old:
            raise _no_key(old.tenant, old.key_id)
        return bool(answer)

    async def revoke(self, tenant: str, key_id: str, operation: str, *, by: str, reason: str = "") -> None:
        """Take a key away. Every gateway refuses it within `RECOGNISED_S`; requests under way end.

        Raises:
            NotFound: the tenant has no such key.
        """
        await self.get(tenant, key_id)
        await self._audit.note(tenant, "key.revoked", operation, by=by, reason=reason, key_id=key_id)
        await self._forget(tenant, [key_id])

    async def revoke_all(self, tenant: str) -> int:
        """Take every key of a tenant away, as part of another act. Returns how many."""
        return await self._forget(tenant, [one.key_id for one in await self.list(tenant)])

    async def _forget(self, tenant: str, key_ids: Sequence[str]) -> int:
        names = [keys.API_KEYS, keys.keys_of(tenant), keys.KEYS_USED]
        count = int(await self._scripts.run("revoke_keys", names, *key_ids)) if key_ids else 0
        self._recognised.clear()
        return count

    async def get(self, tenant: str, key_id: str) -> KeyRecord:
        """What is known of a key.

        Raises:
            NotFound: the tenant has no such key.
        """
        found = [one for one in await self.list(tenant) if one.key_id == key_id]
        if not found:
            raise _no_key(tenant, key_id)
        return found[0]

    async def list(self, tenant: str) -> list[KeyRecord]:
        """A tenant's keys, or `FLEET`'s: oldest first, those too that ended within `FORGOTTEN_S`."""
        await self._adopt()
        with translated():
            digests = list((await self._redis.hgetall(keys.keys_of(tenant))).values())
            if not digests:
                return []
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hmget(keys.API_KEYS, digests)
                pipe.hmget(keys.KEYS_USED, digests)
                records, used = await pipe.execute()
            found = [
                _record(json.loads(record), float(at or 0))
                for record, at in zip(records, used, strict=True)
                if record is not None
            ]
        return sorted(found, key=lambda one: (one.created_at, one.key_id))

    async def _adopt(self) -> None:
        """Once in a store's life: keys from before there was an index are put into it."""
        with translated():
            if await self._redis.hget(keys.KEYS_USED, ADOPTED):
                return
            for hashed, text in (await self._redis.hgetall(keys.API_KEYS)).items():
                record = json.loads(text)
                index = keys.keys_of(record["tenant"])
                await self._scripts.run("set_key", [keys.API_KEYS, index], hashed, record["key_id"], text)
            with suppress(QueueFull), translated():  # then the next one goes through them again
                await self._redis.hset(keys.KEYS_USED, ADOPTED, 1)

    async def recognise(self, key: str) -> Principal:
        """Whose key this is, or was at most `RECOGNISED_S` ago: of a key in use, Redis is asked once in that.

        Raises:
            Unauthorized: nobody's, or it has ended; of that nothing is remembered.
        """
        return await self.recognise_digest(digest(key))

    async def recognise_digest(self, hashed: str) -> Principal:
        """The same of a key's digest, for sessions: they know no more of it. Raises as `recognise` does."""
        principal, until = self._recognised.get(hashed, (None, 0.0))
        asked_at = time.monotonic()
        if principal is None or asked_at >= until:
            principal, left_s = await self._find(hashed)
            if len(self._recognised) >= MOST_RECOGNISED:
                self._recognised.clear()
                self._noted.clear()
            self._recognised[hashed] = principal, asked_at + min(RECOGNISED_S, left_s)
            await self._note_use(hashed, asked_at)
        return principal

    async def authenticate(self, key: str) -> Principal:
        """Whose key this is.

        Raises:
            Unauthorized: nobody's, or it has ended.
        """
        principal, _ = await self._find(digest(key))
        return principal

    async def _find(self, hashed: str) -> tuple[Principal, float]:
        """Whose key has this digest, and for how many seconds yet."""
        with translated():
            text = await self._redis.hget(keys.API_KEYS, hashed)
        if text is None:
            raise Unauthorized(UNKNOWN)
        with translated():
            record: dict[str, Any] = json.loads(text)
            # Records from before there were scopes have neither these nor the digest.
            if not hmac.compare_digest(record.get("sha256", hashed), hashed):
                raise Unauthorized(UNKNOWN)
            known = _record(record)
        left_s = known.expires_at - await self._now() if known.expires_at else float("inf")
        if left_s <= 0:
            raise Unauthorized(
                f"key {known.key_id} has ended: use the one that came in its place, or ask for another"
            )
        return Principal(known.tenant, known.key_id, known.scopes, known.requests_per_s), left_s

    async def _note_use(self, hashed: str, now: float) -> None:
        if now - self._noted.get(hashed, float("-inf")) < NOTED_S:
            return
        self._noted[hashed] = now
        # A store that can be read and not written still lets its keys' owners read.
        with suppress(StoreError):
            await self._scripts.run("use_key", [keys.API_KEYS, keys.KEYS_USED], hashed)

    async def _now(self) -> float:
        with translated():
            seconds, micros = await self._redis.time()
        return int(seconds) + int(micros) / 1e6


def _record(record: dict[str, Any], used_at: float = 0.0) -> KeyRecord:
    scopes = USUAL if "scopes" not in record else frozenset(map(Scope, record["scopes"]))
    return KeyRecord(
        key_id=record["key_id"],
        tenant=record["tenant"],
        scopes=scopes,
        name=record.get("name", ""),
        created_at=float(record.get("created_at", 0)),
        expires_at=float(record.get("expires_at", 0)),
        used_at=used_at,
        requests_per_s=float(record.get("requests_per_s", 0)),
        lives_s=float(record.get("lives_s", 0)),
    )


def _check(scopes: frozenset[Scope], name: str, lives_s: float | None, requests_per_s: float) -> None:
    wrong = []
    if not scopes:
        wrong.append(f"scopes: a key needs one at least, of {', '.join(Scope)}")
    if len(name) > MOST_NAME:
        wrong.append(f"name: {MOST_NAME} characters at most")
    if lives_s is not None and not 1 <= lives_s <= MOST_S:
        wrong.append(f"expires: after a second at least, and {MOST_S / 86_400:,.0f} days at most")
    if not 0 <= requests_per_s <= 1_000_000:
        wrong.append("requests_per_s: 0 (no bound) to 1,000,000")
    if wrong:
        raise InvalidRequest("the key cannot be made; nothing was changed", tuple(wrong))


def _no_key(tenant: str, key_id: str) -> NotFound:
    return NotFound(f"there is no key {key_id!r}: `chimera key list {flag_of(tenant)}` shows them")


def flag_of(tenant: str) -> str:
    """How commands on keys are told whose are meant."""
    return "--fleet" if tenant == FLEET else f"--tenant {tenant}"


def _most(old: KeyRecord | None) -> int:
    """Keys that a tenant may have before another is made. Every key may be rotated, once."""
    return MOST_KEYS if old is None else 2 * MOST_KEYS


def _too_many(tenant: str) -> Conflict:
    whose = "the fleet" if tenant == FLEET else f"tenant {tenant!r}"
    return Conflict(f"{whose} has {MOST_KEYS} keys or more, and there may be no more: revoke some first")


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
