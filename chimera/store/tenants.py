"""Tenants and their quotas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from chimera.core.tenant import FIELDS, Quota
from chimera.errors import CorruptRecord, InvalidRequest, NotFound
from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Scripts


class TenantStore:
    """All tenants.

    Args:
        defaults: what a tenant may have whose quota does not say.
    """

    def __init__(self, redis: Redis, defaults: Quota | None = None) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._defaults = defaults or Quota()

    async def add(self, tenant: str) -> None:
        """Make a tenant; idempotent."""
        await self._scripts.run("add_tenant", [keys.TENANTS], tenant, "{}")

    async def remove(self, tenant: str) -> None:
        """Forget a tenant: the hub looks after it no more. Its records stay; idempotent."""
        with translated():
            await self._redis.hdel(keys.TENANTS, tenant)
            await self._redis.publish(keys.channel(keys.USERS, tenant), "")

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
