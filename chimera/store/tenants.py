"""Tenants: who they are, what they may have, and whether they are suspended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from chimera.core.tenant import FIELDS, Quota, check_name
from chimera.errors import Conflict, CorruptRecord, InvalidRequest, NotFound
from chimera.store import keys
from chimera.store.apikeys import ApiKeys
from chimera.store.audit import Audit
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.missions import MissionStore
from chimera.store.removed import Removed
from chimera.store.scripts import Scripts

SUSPENDED = "suspended"
"""The field of a quota's hash that is no bound: since when (µs) and why, while the tenant is suspended."""


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A tenant.

    Attributes:
        quota: what it may have at most, the defaults filled in.
        suspended_at_us: since when it is suspended; 0: it is not.
        reason: why it is.
    """

    name: str
    quota: Quota
    suspended_at_us: int = 0
    reason: str = ""

    @property
    def suspended(self) -> bool:
        """Whether nothing of it is claimed, reserved or submitted now."""
        return self.suspended_at_us > 0


class TenantStore:
    """All tenants.

    Args:
        defaults: what a tenant may have whose quota does not say.
    """

    def __init__(self, redis: Redis, defaults: Quota | None = None) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._audit = Audit(redis)
        self._api_keys = ApiKeys(redis)
        self._defaults = defaults or Quota()

    async def add(self, tenant: str) -> None:
        """See that there is a tenant of that name, as part of something else; idempotent."""
        if await self._scripts.run("add_tenant", [keys.TENANTS], tenant, "{}"):
            # One of that name may have been removed, while a key of it was being made.
            await self._api_keys.revoke_all(tenant)
            with translated():
                await self._redis.hdel(TenantKeys(tenant).quota, SUSPENDED)

    async def create(self, tenant: str, *, by: str, reason: str = "") -> bool:
        """Make a tenant, for the record. Whether it was not there before.

        Raises:
            InvalidRequest: it can be no tenant's name.
        """
        if check_name(tenant) in await self.names():
            return False
        # One id for all who do it at once; `remove_tenant.lua` forgets it.
        await self._audit.note(tenant, "tenant.added", "added", by=by, reason=reason)
        await self.add(tenant)
        return True

    async def remove(self, tenant: str) -> None:
        """Look after a tenant no more. Its records stay; idempotent."""
        with translated():
            await self._redis.hdel(keys.TENANTS, tenant)
            await self._redis.publish(keys.channel(keys.USERS, tenant), "")

    async def suspend(self, tenant: str, operation: str, *, by: str, reason: str = "") -> bool:
        """Suspend a tenant; once for an operation. Whether it was not before.

        From then on nothing of it is claimed and nothing reserved; gateways refuse all but reading within a
        second. What is under way ends, as its workers do.

        Raises:
            NotFound: there is no such tenant.
        """
        return await self._suspend(tenant, operation, 1, by, reason)

    async def resume(self, tenant: str, operation: str, *, by: str, reason: str = "") -> bool:
        """Let a suspended tenant go on; once for an operation. Whether it was suspended. Raises NotFound."""
        return await self._suspend(tenant, operation, 0, by, reason)

    async def _suspend(self, tenant: str, operation: str, to: int, by: str, reason: str) -> bool:
        await self.require(tenant)
        root = TenantKeys(tenant).root
        return bool(await self._scripts.run("suspend_tenant", [root], operation, by, to, reason))

    async def wind_up(
        self, tenant: str, operation: str, *, by: str, reason: str = "", force: bool = False
    ) -> None:
        """Take a tenant's keys, quota and limits, and look after it no more. Its records and recorder stay.

        Args:
            force: suspend it and cancel what is open. That takes the hub a moment: until it is through this
                raises Conflict, and is to be asked again.
        Raises:
            NotFound: there is no such tenant.
            Conflict: work of it is open; unless `force` is set nothing was changed.
        """
        await self.require(tenant)
        missions = MissionStore(self._redis, tenant)
        if force:
            active = await missions.active()
            if active:
                await self.suspend(tenant, f"remove {operation}", by=by, reason=reason)
            for mission_id in active:
                await missions.cancel(mission_id, by=by, reason=f"tenant removed: {reason}")
        else:
            await self._take(tenant, operation, by, reason, look=True)
        await self._api_keys.revoke_all(tenant)
        await self._take(tenant, operation, by, reason)
        await Removed(self._redis).note(tenant, f"remove {operation}")
        await self.remove(tenant)

    async def _take(self, tenant: str, operation: str, by: str, reason: str, *, look: bool = False) -> None:
        """Take quota and limits, or only see that it can be. Raises Conflict: work of it is open."""
        root = TenantKeys(tenant).root
        done, *left = await self._scripts.run("remove_tenant", [root], operation, by, reason, int(look))
        if not done:
            raise Conflict(
                f"work of tenant {tenant!r} is open: {left[0]:,} missions, {left[1]:,} tasks, {left[2]:,} "
                f"holds and {left[3]:,} actions are still to end. Let them, or cancel missions with --force, "
                "and ask again"
            )

    async def require(self, tenant: str) -> None:
        """See that there is such a tenant.

        Raises:
            NotFound: there is none.
        """
        with translated():
            there = await self._redis.hget(keys.TENANTS, tenant)
        if there is None:
            raise NotFound(f"there is no tenant {tenant!r}: `chimera tenant list` shows them")

    async def names(self) -> list[str]:
        """All tenants by name."""
        with translated():
            return sorted(await self._redis.hkeys(keys.TENANTS))

    async def quota(self, tenant: str) -> Quota:
        """What the tenant may have at most, the defaults filled in.

        Raises:
            CorruptRecord: it cannot be read.
        """
        return (await self.record(tenant)).quota

    async def record(self, tenant: str) -> TenantRecord:
        """A tenant as it stands. Raises CorruptRecord: its quota cannot be read."""
        return (await self.records([tenant]))[tenant]

    async def records(self, tenants: Sequence[str]) -> dict[str, TenantRecord]:
        """Tenants as they stand, in one round trip. Raises as `record` does."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for tenant in tenants:
                    pipe.hgetall(TenantKeys(tenant).quota)
                found = await pipe.execute()
        return {tenant: self._read(tenant, own) for tenant, own in zip(tenants, found, strict=True)}

    def _read(self, tenant: str, own: Mapping[str, str]) -> TenantRecord:
        bounds = dict(own)
        since, _, reason = bounds.pop(SUSPENDED, "0").partition(" ")
        try:
            quota = Quota.model_validate({**self._defaults.model_dump(), **bounds})
            return TenantRecord(tenant, quota, int(since), reason)
        except ValueError as exc:
            first = exc.errors()[0] if isinstance(exc, ValidationError) else {"msg": str(exc), "loc": ()}
            # `--reset` leaves alone who keeps its workers.
            anew = "--spoke` or `--no-spoke" if first["loc"] == ("spoke",) else "--reset"
            raise CorruptRecord(
                f"the quota of tenant {tenant!r} cannot be read ({first['msg']}): set it anew with "
                f"`chimera tenant set {tenant} {anew}`"
            ) from exc

    async def set_quota(
        self,
        tenant: str,
        changes: Mapping[str, float | None],
        operation: str,
        *,
        by: str,
        reason: str = "",
    ) -> Quota:
        """Change fields of a quota, None to the default; once for an operation. The quota as it is then.

        Raises:
            NotFound: there is no such tenant.
            InvalidRequest: a field or a value is impossible; nothing was changed.
        """
        await self.require(tenant)
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
        values = {
            name: "" if value is None else _plain(getattr(valid, name)) for name, value in changes.items()
        }
        await self._scripts.run(
            "set_quota",
            [TenantKeys(tenant).root],
            operation,
            by,
            reason,
            *(field for one in values.items() for field in one),
        )
        return await self.quota(tenant)


def _plain(value: float | bool) -> float:
    """As Redis has it: 1 for yes."""
    return int(value) if isinstance(value, bool) else value
