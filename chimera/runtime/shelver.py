"""The shelver: accepted tasks of large missions leave Redis for the blob store, while their missions go on.

Block by block: when nothing of a block is under way any more, and one lease has passed since, so that whoever
repeats a call about one of its tasks in that time hears the same answer. While much stands in Redis a block
waits less (`chimera.core.shelving`), and what it leaves behind leaves later. Files first, whole and durable;
then one step that takes the tasks out of Redis and notes the files. A crash between leaves files that nobody
knows of, to be written again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from chimera.core.shelving import BLOCK, leave_at_once, may_stay_behind
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service
from chimera.store.scripts import OldTerm
from chimera.store.shelves import WINDOW, Standing

log = structlog.get_logger(__name__)

AT_ONCE = 4
"""Blocks that are shelved side by side: each mostly waits, for Redis and for its disk."""
AGAIN_S = 30.0
"""While much stands in Redis, what blocks left behind is looked for so often: a block costs a millisecond."""


@dataclass
class _Progress:
    """What this leader knows of a mission.

    Attributes:
        done: blocks that are shelved, or have nothing for the shelf.
        behind: those of them that may have left tasks behind in Redis.
        seen: how many were accepted when last no block was waited for.
        again_at: when to look for what was left behind, by this process's clock.
    """

    done: set[int]
    behind: set[int]
    seen: int = -1
    again_at: float = float("-inf")


class _Patience(NamedTuple):
    """What a block waits for: that its last task ended so long ago, but for as many as may be under way."""

    quiet_s: float
    under_way: int


class Shelver(Service):
    """The leader's: every tenant's large missions in turn."""

    name = "shelver"
    sweep_s = 0.5
    hung_s = 3_600.0  # a store of blobs may be slow, and a mission large

    def __init__(self, base: Base, elector: Elector) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._term = 0
        self._bulkhead = Bulkhead(self.name)
        self._progress: dict[tuple[str, str], _Progress] = {}

    async def run_once(self) -> None:
        term = self._elector.term
        if term is None:
            return
        if term != self._term:
            self._progress.clear()  # another may have led meanwhile
            self._term = term
        try:
            for tenant in await self._base.tenants.names():
                with self._bulkhead.of(tenant):
                    await self.tend(tenant, term=term)
        except OldTerm:
            log.warning("shelver.superseded", term=term)

    async def tend(self, tenant: str, *, term: int) -> None:
        """Shelve what is ready of one tenant's missions.

        Raises:
            OldTerm: a newer leader acts.
        """
        stores = self._base.of(tenant)
        standings = await stores.shelf.standings()
        here = {standing.mission_id for standing in standings}
        for key in [key for key in self._progress if key[0] == tenant and key[1] not in here]:
            del self._progress[key]
        for standing in standings:
            with self._bulkhead.of(tenant, standing.mission_id):
                await self._shelve(tenant, stores, standing, term)

    async def _shelve(self, tenant: str, stores: TenantStores, standing: Standing, term: int) -> None:
        """Shelve a mission's blocks, if there may be one that is ready."""
        mission_id = standing.mission_id
        if standing.here < BLOCK:
            return
        progress = self._progress.get((tenant, mission_id))
        if progress is None:
            shelved = await stores.shelf.blocks(mission_id)
            progress = self._progress[tenant, mission_id] = _Progress(shelved, set(shelved))
        window = self._base.settings.plan_window
        patience = _Patience(
            quiet_s=0.0 if leave_at_once(standing.here, window) else self._base.settings.lease_s,
            under_way=may_stay_behind(standing.here, window),
        )
        again: list[int] = []
        if leave_at_once(standing.here, window) and time.monotonic() >= progress.again_at:
            again = sorted(progress.behind)
            progress.again_at = time.monotonic() + AGAIN_S
        elif progress.seen == standing.accepted:
            return
        waits = False
        end = standing.planned if standing.planned_all else standing.planned // BLOCK * BLOCK
        left = [first for first in range(0, end, BLOCK) if first not in progress.done] + again
        for start in range(0, len(left), AT_ONCE):
            some = left[start : start + AT_ONCE]
            for first, done in zip(
                some,
                await asyncio.gather(
                    *(
                        self._block(stores, mission_id, one, min(one + BLOCK, end), patience, term)
                        for one in some
                    ),
                    return_exceptions=True,
                ),
                strict=True,
            ):
                if isinstance(done, BaseException):
                    raise done
                if done is None:
                    waits = True
                    continue
                progress.done.add(first)
                if done:
                    progress.behind.add(first)
                else:
                    progress.behind.discard(first)
        if not waits:
            progress.seen = standing.accepted

    async def _block(
        self, stores: TenantStores, mission_id: str, first: int, last: int, patience: _Patience, term: int
    ) -> int | None:
        """Shelve one block. Returns how many of its tasks stay in Redis; None: not yet."""
        ready = await stores.shelf.ready(
            mission_id, first, last, quiet_s=patience.quiet_s, under_way=patience.under_way
        )
        if ready is None:
            return None
        ids, others = ready
        if not ids:  # its first tasks may be about to end
            return None if others and patience.under_way else others
        fetched = stores.shelf.writing(mission_id)
        for start in range(0, len(ids), WINDOW):
            window = ids[start : start + WINDOW]
            for task_id, raw in zip(window, await stores.tasks.fetch(window), strict=True):
                if not raw.whole or raw.task["status"] != "ACCEPTED":
                    return None  # it is pruned, or a newer leader shelves it
                await fetched.add(task_id, raw)
        await fetched.end()
        by = self._elector.replica
        if not await stores.shelf.shelve(mission_id, first, fetched, term=term, by=by):
            return None
        log.debug("mission.shelved", mission_id=mission_id, first=first, tasks=len(ids))
        return others
