"""Tenants, their API keys and their quotas. A key is shown once; only its SHA-256 is kept."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from chimera.core.tenant import FIELDS, Quota
from chimera.errors import CorruptRecord, InvalidRequest, NotFound, Unauthorized
from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Scripts

RECOGNISED_S = 1.0
"""A key that was taken away may be let in for so long."""
MOST_RECOGNISED = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request."""

    tenant: str
    key_id: str

    def __str__(self) -> str:
        return f"key:{self.key_id}"


class TenantStore:
    """All tenants.

    Args:
        defaults: what a tenant may have whose quota does not say.
    """

    def __init__(self, redis: Redis, defaults: Quota | None = None) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._defaults = defaults or Quota()
        self._recognised: dict[str, tuple[Principal, float]] = {}

    async def add(self, tenant: str) -> None:
        """Make a tenant; idempotent."""
        await self._scripts.run("add_tenant", [keys.TENANTS], tenant, "{}")

    async def remove(self, tenant: str) -> None:
        """Forget a tenant: the hub looks after it no more. Its records stay; idempotent."""
        with translated():
            await self._redis.hdel(keys.TENANTS, tenant)

    async def names(self) -> list[str]:
        """All tenants by name."""
        with translated():
            return sorted(await self._redis.hkeys(keys.TENANTS))

    async def quota(self, tenant: str) -> Quota:
        """What the tenant may have at most, the defaults filled in.

        Raises:
            CorruptRecord: it cannot be read.
        """
        return (await self.quotas([tenant]))[tenant]

    async def quotas(self, tenants: Sequence[str]) -> dict[str, Quota]:
        """The same of many, in one round trip."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for tenant in tenants:
                    pipe.hgetall(TenantKeys(tenant).quota)
                found = await pipe.execute()
        return {
            tenant: self._filled(tenant, own) if own else self._defaults
            for tenant, own in zip(tenants, found, strict=True)
        }

    def _filled(self, tenant: str, own: Mapping[str, str]) -> Quota:
        try:
            return Quota.model_validate({**self._defaults.model_dump(), **own})
        except ValidationError as exc:
            raise CorruptRecord(
                f"the quota of tenant {tenant!r} cannot be read ({exc.errors()[0]['msg']}): set it anew with "
                f"`chimera tenant quota {tenant}`"
            ) from exc

    async def set_quota(
        self, tenant: str, changes: Mapping[str, float | None], operation: str, *, by: str
    ) -> Quota:
        """Change fields of a quota, None to the default; once for an operation. The quota as it is then.

        Raises:
            NotFound: there is no such tenant.
            InvalidRequest: a field or a value is impossible; nothing was changed.
        """
        if tenant not in await self.names():
            raise NotFound(f"there is no tenant {tenant!r}: `chimera tenant list` shows them")
        if unknown := sorted(changes.keys() - set(FIELDS)):
            raise InvalidRequest(f"a quota has no {unknown[0]!r}: it has {', '.join(FIELDS)}")
        try:
            valid = Quota.model_validate(
                {name: value for name, value in changes.items() if value is not None}
            )
        except ValidationError as exc:
            lines = tuple(f"{error['loc'][0]}: {error['msg']}" for error in exc.errors())
            raise InvalidRequest("the quota cannot be set; nothing was changed", lines) from exc
        if not changes:
            return await self.quota(tenant)
        values = {name: "" if value is None else getattr(valid, name) for name, value in changes.items()}
        await self._scripts.run(
            "set_quota",
            [TenantKeys(tenant).root],
            operation,
            by,
            *(field for one in values.items() for field in one),
        )
        return await self.quota(tenant)

    async def new_key(self, tenant: str) -> str:
        """A new key of 256 random bits for the tenant. It is not kept: only its digest is."""
        key = f"chi_{secrets.token_urlsafe(32)}"
        await self.set_key(tenant, key)
        return key

    async def set_key(self, tenant: str, key: str) -> None:
        """Let a key act for the tenant; idempotent."""
        # The key is random, so one fast hash suffices: there is nothing to guess.
        record = json.dumps({"tenant": tenant, "key_id": _digest(key)[:8]})
        await self._scripts.run("set_key", [keys.API_KEYS], _digest(key), record)

    async def recognise(self, key: str) -> Principal:
        """Whose key this is, or was at most `RECOGNISED_S` ago: of a key in use, Redis is asked once in that.

        Raises:
            Unauthorized: nobody's; of that nothing is remembered.
        """
        digest = _digest(key)
        principal, until = self._recognised.get(digest, (None, 0.0))
        asked_at = time.monotonic()
        if principal is None or asked_at >= until:
            principal = await self.authenticate(key)
            if len(self._recognised) >= MOST_RECOGNISED:
                self._recognised.clear()
            self._recognised[digest] = principal, asked_at + RECOGNISED_S
        return principal

    async def authenticate(self, key: str) -> Principal:
        """Whose key this is.

        Raises:
            Unauthorized: nobody's.
        """
        with translated():
            record = await self._redis.hget(keys.API_KEYS, _digest(key))
        if record is None:
            raise Unauthorized("this key is not known: check CHIMERA_API_KEY")
        with translated():
            return Principal(**json.loads(record))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
