"""Keeps the users of Redis: each role's and each tenant's are there, with their rights, and no other of ours.

It logs in as the operator, alone of all services. In a local fleet the supervisor runs it, elsewhere each
replica of the orchestrator that was given the operator's login.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from chimera.runtime.base import Base, base_of
from chimera.runtime.service import Service
from chimera.settings import Settings
from chimera.store import keys
from chimera.store.signals import Wakeups
from chimera.store.users import Changes, UserStore

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""So long at most users are missing after a restart of Redis: it looks this often."""
READ_S = 60.0
"""What users may do is read, and put right, this often."""


class UserKeeper(Service):
    """One is enough, and several do no harm.

    Args:
        base: logged in as the operator.
        wakeups: on `keys.USERS`: a tenant has come or gone.
    Raises:
        ConfigurationError: there is no master secret.
    """

    name = "user keeper"
    sweep_s = LOOK_S

    def __init__(self, base: Base, wakeups: Wakeups) -> None:
        super().__init__()
        self._base, self._wakeups = base, wakeups
        self._users = UserStore(base.redis, base.settings)
        self._read_at = float("-inf")

    async def wait(self) -> None:
        await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        tenants = await self._base.tenants.names()
        if time.monotonic() - self._read_at < READ_S and not await self._users.missing(tenants):
            return
        changes = await self._users.reconcile(tenants)
        self._read_at = time.monotonic()
        if changes:
            told(changes)


async def keep_users(settings: Settings) -> None:
    """Run the keeper until this is cancelled.

    Args:
        settings: with the operator's login, and the master secret.
    """
    base = base_of(settings)
    try:
        async with Wakeups(base.blocking, keys.USERS) as wakeups:
            keeper = UserKeeper(base, wakeups)
            keeper.start()
            try:
                await asyncio.Event().wait()
            finally:
                await keeper.stop()
    finally:
        await base.close()


async def reconcile(base: Base) -> Changes:
    """Do it once: for a start, before any other logs in.

    Raises:
        ConfigurationError: Redis denies it, or there is no master secret.
        StoreUnavailable, StoreTimeout: Redis is away.
    """
    changes = await UserStore(base.redis, base.settings).reconcile(await base.tenants.names())
    told(changes)
    return changes


def told(changes: Changes) -> None:
    """Log what was done."""
    log.info(
        "users.reconciled",
        made=len(changes.made),
        removed=list(changes.removed),
        scripts=changes.scripts,
    )
