"""The reserve: the fleet's spares. It keeps as many as the settings say, and gives them to tenants.

A spare is a process the backend lists without a tenant. One that belongs to a tenant is that tenant's
worker for the rest of its life, beside the fleet's places: it bridges the time until a worker has a place,
or a node.
"""

from __future__ import annotations

import uuid

import structlog

from chimera.runtime.backend import Backend
from chimera.runtime.base import Base
from chimera.store.spares import DISMISSED, SpareStore

log = structlog.get_logger(__name__)

WARMING_S = 120.0
"""A spare that is not ready after this long is ended and replaced."""


class Reserve:
    """Spares as a pass of the fleet controller sees and uses them."""

    def __init__(self, base: Base, backend: Backend) -> None:
        self._settings = base.settings
        self._backend = backend
        self._store = SpareStore(base.redis)
        self._ready: set[str] = set()
        self._waiting: list[str] = []
        self._since: dict[str, float] = {}

    async def look(self, existing: dict[str, str]) -> dict[str, str]:
        """Take note of the spares among what exists. Returns those that belong to somebody: id → tenant."""
        there = {process for process, tenant in existing.items() if not tenant}
        said = await self._store.all()
        await self._store.forget(said.keys() - there)
        self._ready = there & said.keys()
        self._waiting = sorted(spare for spare in there if said.get(spare) == "")
        self._since = {spare: at for spare, at in self._since.items() if spare in there}
        return {spare: said[spare] for spare in there if said.get(spare, "") not in {"", DISMISSED}}

    async def give(self, tenant: str) -> str | None:
        """Make one the tenant's; None when none is ready."""
        while self._waiting:
            spare = self._waiting.pop(0)
            if await self._store.bind(spare, tenant) == tenant:
                await self._backend.equip({spare: tenant})
                log.info("spare.given", tenant=tenant, worker=spare)
                return spare
        return None

    async def fill(self, existing: dict[str, str], now: float) -> None:
        """Start what is missing, end what is too many or never came to be ready."""
        there = {process for process, tenant in existing.items() if not tenant}
        for spare in sorted(there - self._since.keys()):
            self._since[spare] = now
        late = {one for one in there - self._ready if now - self._since[one] > WARMING_S}
        surplus = self._waiting[: max(0, len(there - late) - self._settings.spares)]
        for spare in (*sorted(late), *surplus):
            log.warning("spare.ended", worker=spare, late=spare in late)
            await self._backend.end("", spare, "")
            there.discard(spare)
        missing = self._settings.spares - len(there)
        if missing > 0:
            missing = min(missing, await self._backend.spare_places() - len(there))
        for _ in range(missing):
            spare = f"spare-{uuid.uuid4().hex[:8]}"
            log.info("spare.starting", worker=spare)
            await self._backend.start("", spare)
