"""The retention: finished missions leave Redis for the blob store, so that Redis holds work and not history.

Each mission in four steps, of which a crash repeats the one it cut:

    mark    note that it is unchanged from now on; whatever changes it takes the mark off
    write   its dossier, whole and durable, read in bounded windows
    prune   if the mark still stands, remove it in bounded batches; from the first on it counts as archived
    …       until nothing is left; whoever comes later sees how far it is

It goes by age (`CHIMERA_KEEP_MISSIONS_S`). When the store is so full that new missions are refused, it goes
sooner, by age still: until there is room again, and never within `early_s` after a mission's end.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from chimera.core.action import action_id
from chimera.errors import BlobsUnavailable, NotFound
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service
from chimera.runtime.troubles import TroubleBook, why
from chimera.settings import MIN_KEEP_S
from chimera.store.dossiers import Filed
from chimera.store.missionrecord import MissionRecord
from chimera.store.pruning import Mark
from chimera.store.room import FULL_AT
from chimera.store.scripts import OldTerm
from chimera.store.uploads import LONGEST_S, clear, unfinished

log = structlog.get_logger(__name__)

WINDOW = 50
"""Tasks read into memory at once."""
CLEAR_S = 3_600.0
"""How often it is looked for uploads that were left behind."""
PAGE = 50
"""Missions looked up at once."""
ROOM_AT = FULL_AT - 0.05
"""A store that was full has room again when less of its memory is taken: its door is not to flap."""


class Changed(Exception):
    """The mission is not as it was when it was marked."""


class Retention(Service):
    """The leader's: every tenant's finished missions in turn, those that ended first before the others."""

    name = "retention"
    sweep_s = 1.0
    hung_s = 3_600.0  # a store of blobs may be slow, and a mission large
    early_s: float = MIN_KEEP_S
    """In a full store a mission that ended so long ago may go."""

    def __init__(self, base: Base, elector: Elector) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._term = 0
        self._bulkhead = Bulkhead(self.name)
        self._troubles = TroubleBook(base.retention_troubles)
        self._cleared: set[str] = set()
        self._clear_at = float("-inf")

    async def run_once(self) -> None:
        term = self._elector.term
        if term is None:
            return
        if term != self._term:
            # What another leader did meanwhile is not known here.
            self._cleared.clear()
            self._clear_at = float("-inf")
            await self._troubles.read()
            self._term = term
        tenants = await self._base.tenants.names()
        await self._troubles.forget_all_but(tenants)
        await self._clear_uploads(tenants)
        keep_s = self._base.settings.keep_missions_s
        try:
            await self.retire(tenants, age_s=keep_s, term=term)
            if await self._base.room.taken() >= FULL_AT:
                await self.make_room(tenants, age_s=min(self.early_s, keep_s), term=term)
        except OldTerm:
            log.warning("retention.superseded", term=term)

    async def _clear_uploads(self, tenants: Sequence[str]) -> None:
        """Now and then: inputs whose writer died before their mission was acknowledged."""
        if time.monotonic() < self._clear_at:
            return
        self._clear_at = time.monotonic() + CLEAR_S
        for tenant in tenants:
            with self._bulkhead.of(tenant):
                stores = self._base.of(tenant)
                before_us = await stores.missions.now_us() - round(2e6 * LONGEST_S)
                for mission_id in await unfinished(self._base.blobs, tenant, before_us=before_us):
                    try:
                        await stores.readings.open(mission_id)
                        stands = True
                    except NotFound:
                        stands = False
                    await clear(self._base.blobs, tenant, mission_id, stands=stands)
                    log.info("upload.cleared", tenant=tenant, mission_id=mission_id, stands=stands)

    async def make_room(self, tenants: Sequence[str], *, age_s: float, term: int) -> int:
        """Retire missions that are old enough until the store has room again. Returns how many.

        Raises:
            OldTerm: a newer leader acts; so with `retire`.
        """
        retired = await self.retire(tenants, age_s=age_s, term=term, enough=self._has_room)
        if retired:
            taken = await self._base.room.taken_now()
            log.warning("retention.made_room", missions=retired, taken=round(taken, 3))
        return retired

    async def _has_room(self) -> bool:
        return await self._base.room.taken_now() < ROOM_AT

    async def retire(
        self,
        tenants: Sequence[str],
        *,
        age_s: float,
        term: int,
        enough: Callable[[], Awaitable[bool]] | None = None,
    ) -> int:
        """Archive and remove missions that ended so long ago, until it is enough. Returns how many."""
        retired, passed = 0, dict.fromkeys(tenants, 0)
        while found := await self._oldest(passed, age_s):
            for _, tenant, mission_id in found:
                if enough and await enough():
                    return retired
                if await self._retire(tenant, mission_id, age_s, term):
                    retired += 1
                else:
                    passed[tenant] += 1  # it stays where it is for now, and holds up no other
        return retired

    async def _oldest(self, passed: dict[str, int], age_s: float) -> list[tuple[int, str, str]]:
        """A page of missions across tenants: when each ended, whose it is, and its id."""
        found: list[tuple[int, str, str]] = []
        for tenant, skip in passed.items():
            if not self._troubles.waits(tenant):
                with self._bulkhead.of(tenant):
                    page = await self._base.of(tenant).pruning.finished(age_s=age_s, skip=skip, most=PAGE)
                    found += [(ended_us, tenant, mission_id) for mission_id, ended_us in page]
        return sorted(found)[:PAGE]

    async def _retire(self, tenant: str, mission_id: str, age_s: float, term: int) -> bool:
        """Archive a mission and remove it. False: not now.

        What is wrong with one mission is named, and holds up no other; a blob store that cannot be written
        holds up its tenant's, until it can.
        """
        if self._troubles.waits(tenant):
            return False
        gone = False
        try:
            with self._bulkhead.of(tenant, mission_id):
                gone = await self._carry(tenant, mission_id, age_s, term)
        except BlobsUnavailable as exc:
            log.error(
                "retention.failing",
                tenant=tenant,
                error=str(exc),
                message="Nothing is lost: finished missions stay in Redis until they can be archived.",
            )
            await self._troubles.failed(tenant, why(exc))
            return False
        if gone and (failures := await self._troubles.well(tenant)):
            log.info("retention.recovered", tenant=tenant, failures=failures)
        return gone

    async def _carry(self, tenant: str, mission_id: str, age_s: float, term: int) -> bool:
        stores = self._base.of(tenant)
        mark = await stores.pruning.mark(mission_id, age_s=age_s, term=term)
        if mark is None:
            return False
        sha256 = ""
        if not mark.archived:
            try:
                sha256 = await self._write(tenant, stores, mission_id, mark, age_s, term)
            except (Changed, NotFound):
                return False  # somebody changed it, or a newer leader prunes it: looked at again
        left = await stores.pruning.prune(
            mission_id, mark, sha256=sha256, term=term, by=self._elector.replica
        )
        if left:
            await stores.shelf.clear(mission_id)  # its dossier is what counts from here on
        while left:
            left = await stores.pruning.prune(
                mission_id, mark, sha256=sha256, term=term, by=self._elector.replica
            )
        if left is None:
            return False
        log.info("mission.archived", tenant=tenant, mission_id=mission_id)
        return True

    async def _write(
        self, tenant: str, stores: TenantStores, mission_id: str, mark: Mark, age_s: float, term: int
    ) -> str:
        """Write a mission's dossier; the digest of its lines.

        Raises:
            Changed: it is not as it was when it was marked; nothing was written.
        """
        if tenant not in self._cleared:
            await stores.dossiers.clear_unfinished()
            self._cleared.add(tenant)
        mission = await stores.missions.get(mission_id)
        async with stores.dossiers.writing(replace(mission, archived_at_us=mark.at_us)) as dossier:
            async for filed in windows(stores, mission):
                await dossier.add(filed)
            whole = dossier.tasks == sum(mission.counts.values())
            if not whole or await stores.pruning.mark(mission_id, age_s=age_s, term=term) != mark:
                raise Changed
        return dossier.sha256


async def windows(stores: TenantStores, mission: MissionRecord) -> AsyncIterator[list[Filed]]:
    """A mission's tasks in the order planned, with the actions of their results, a few at a time."""
    start = 0
    while ids := await stores.missions.task_ids(mission.mission_id, offset=start, most=WINDOW):
        tasks = await stores.tasks.get_many(ids)
        wanted = [action_id(task.task_id, index) for task in tasks for index in range(task.actions)]
        actions = iter(await stores.actions.get_many(wanted))
        yield [(task, [next(actions) for _ in range(task.actions)]) for task in tasks]
        start += WINDOW
