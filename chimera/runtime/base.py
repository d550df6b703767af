"""What every hub service stands on: settings, connections, and each tenant's stores."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import structlog

from chimera.errors import StoreUnavailable
from chimera.runtime.service import backoff_s
from chimera.settings import Settings
from chimera.store import keys
from chimera.store.actions import ActionStore
from chimera.store.apikeys import ApiKeys
from chimera.store.archive import Archive
from chimera.store.audit import Audit
from chimera.store.blobs import Blobs
from chimera.store.catalogue import Catalogue
from chimera.store.connection import Redis, connect, prepare, remarks
from chimera.store.cuts import Cuts
from chimera.store.dossiers import Dossiers
from chimera.store.elections import Election
from chimera.store.flags import Flags
from chimera.store.ledger import Ledger
from chimera.store.missions import MissionStore
from chimera.store.pruning import Pruning
from chimera.store.readings import Readings
from chimera.store.recorder import Recorder
from chimera.store.requests import Requests
from chimera.store.results import ResultStore
from chimera.store.reviews import ReviewStore
from chimera.store.rights import Role
from chimera.store.room import Room
from chimera.store.shelves import Shelf
from chimera.store.sinks import Sink, Troubles
from chimera.store.spending import Spending
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore
from chimera.store.users import as_role
from chimera.store.waiting import Waiting

log = structlog.get_logger(__name__)

LOGIN_S = 30.0
"""So long a part of the hub that starts waits for its user to be made."""


@dataclass(frozen=True)
class TenantStores:
    """One tenant's stores."""

    missions: MissionStore
    tasks: TaskStore
    reviews: ReviewStore
    ledger: Ledger
    requests: Requests
    recorder: Recorder
    actions: ActionStore
    archive: Archive
    sink: Sink
    """The archive's hold on the recorder's stream."""
    dossiers: Dossiers
    pruning: Pruning
    waiting: Waiting
    """Why tasks wait."""
    shelf: Shelf
    """Accepted tasks of large missions, out of Redis."""
    readings: Readings
    """Missions, tasks and actions for whoever only reads them: also those that were pruned."""
    spending: Spending
    """The ledger for whoever only reads it."""
    cuts: Cuts
    """The ledger and the recorder's number in one step, for an audit."""
    flags: Flags
    """What limits refused, till somebody has seen it."""


@dataclass(frozen=True, eq=False)
class Base:
    """Settings and connections of one process."""

    settings: Settings
    redis: Redis
    blocking: Redis
    """For reads that wait: it has no socket timeout."""
    blobs: Blobs
    tenants: TenantStore
    api_keys: ApiKeys
    audit: Audit
    catalogue: Catalogue
    room: Room
    """How full the store is, asked once for the whole process."""
    troubles: Troubles
    """Of the recorder's archive."""
    retention_troubles: Troubles
    """Of finished missions that cannot be archived."""
    export_troubles: Troubles
    """Of the MCP server that is told of the recorder."""
    _stores: dict[str, TenantStores] = field(default_factory=dict)

    def of(self, tenant: str) -> TenantStores:
        """The stores of a tenant."""
        if tenant not in self._stores:
            archive, dossiers = Archive(self.blobs, tenant), Dossiers(self.blobs, tenant)
            missions = MissionStore(self.redis, tenant, self.room)
            shelf = Shelf(self.redis, self.blobs, tenant)
            tasks, actions = TaskStore(self.redis, tenant, shelf), ActionStore(self.redis, tenant)
            self._stores[tenant] = TenantStores(
                missions,
                tasks,
                ReviewStore(self.redis, tenant),
                Ledger(self.redis, tenant),
                Requests(self.redis, tenant),
                Recorder(self.redis, tenant, archive),
                actions,
                archive,
                Sink(self.redis, tenant),
                dossiers,
                Pruning(self.redis, tenant),
                Waiting(self.redis, tenant),
                shelf,
                Readings(missions, tasks, actions, ResultStore(self.redis, tenant, shelf), dossiers),
                Spending(self.redis, tenant),
                Cuts(self.redis, tenant),
                Flags(self.redis, tenant),
            )
        return self._stores[tenant]

    def election(self, role: str) -> Election:
        """The election of a role."""
        return Election(self.redis, role)

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
        await self.blocking.aclose()


async def open_base(settings: Settings) -> Base:
    """Connect, and check that Redis fits.

    Raises:
        ConfigurationError: no Redis is named, or it does not fit.
        StoreUnavailable: it cannot be reached.
    """
    base = base_of(settings)
    try:
        await prepare(base.redis)
        for remark in await remarks(base.redis):
            log.warning("store.remark", message=remark)
    except BaseException:
        await base.close()
        raise
    return base


async def open_as(settings: Settings, role: Role, *, patience_s: float = LOGIN_S) -> Base:
    """The same, logged in as a role. Its user may still be on its way: so for a while it tries again.

    Raises:
        ConfigurationError: no Redis is named, or it does not fit, or there is no master secret.
        StoreUnavailable: it cannot be reached, or refuses the login.
    """
    own, until, failures = as_role(settings, role), time.monotonic() + patience_s, 0
    while True:
        try:
            return await open_base(own)
        except StoreUnavailable as exc:
            if own is settings or time.monotonic() > until:
                raise
            failures += 1
            log.warning("store.unavailable", service=role, error=str(exc))
            await asyncio.sleep(backoff_s(failures))


def base_of(settings: Settings) -> Base:
    """The same without asking Redis anything yet."""
    redis = connect(settings)
    return Base(
        settings=settings,
        redis=redis,
        blocking=connect(settings, blocking=True),
        blobs=Blobs(settings.blob_location),
        tenants=TenantStore(redis, settings.tenant_quota),
        api_keys=ApiKeys(redis),
        audit=Audit(redis),
        catalogue=Catalogue(redis),
        room=Room(redis),
        troubles=Troubles(redis),
        retention_troubles=Troubles(redis, keys.RETENTION),
        export_troubles=Troubles(redis, keys.EXPORT),
    )
