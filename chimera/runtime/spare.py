"""A spare: a warm process that waits to be one tenant's, then is a worker of that tenant and of no other.

While it waits it has no tenant's name and touches no tenant's keys. It learns whom it serves once, from the
record that makes it theirs, and never waits again: when its work is over its process ends, and the fleet
controller starts another. What it takes to work for them the controller gives it then (`runtime.outfit`).
"""

from __future__ import annotations

import asyncio
import importlib

import structlog

from chimera.errors import StoreError
from chimera.runtime.service import backoff_s
from chimera.settings import Settings
from chimera.store.connection import Redis, connect
from chimera.store.spares import DISMISSED, SpareBell, SpareStore

log = structlog.get_logger(__name__)

SWEEP_S = 5.0
"""It looks whose it is at least this often, rung for or not."""


def warm() -> None:
    """Import what a worker's first call of a model would otherwise wait seconds for."""
    importlib.import_module("chimera.agents.models.providers")


async def wait(settings: Settings, spare: str) -> str | None:
    """The same as `bound`, over connections of its own that are gone when it is over."""
    redis, blocking = connect(settings), connect(settings, blocking=True)
    try:
        return await bound(redis, blocking, spare)
    finally:
        await redis.aclose()
        await blocking.aclose()


async def bound(redis: Redis, blocking: Redis, spare: str) -> str | None:
    """Wait until the spare belongs to a tenant; that tenant, or None when it is to end."""
    spares, bell = SpareStore(redis), SpareBell(blocking, spare)
    failures, ready = 0, False
    while True:
        try:
            tenant = await spares.join(spare)
            if not ready:
                log.info("spare.ready", worker=spare)
                ready = True
            if tenant == DISMISSED:
                log.info("spare.dismissed", worker=spare)
                return None
            if tenant:
                log.info("spare.bound", tenant=tenant, worker=spare)
                return tenant
            await bell.wait(SWEEP_S)
            failures = 0
        except StoreError as exc:
            failures += 1
            log.warning("store.unavailable", service="spare", error=str(exc))
            await asyncio.sleep(backoff_s(failures))
