"""The slots of a worker: what it has under way, and what becomes of an attempt that does not end when told.

An attempt whose lease is lost, or whose time is up, is cancelled: again at each heartbeat, since a library
may swallow a cancellation that meets it at the wrong moment. One that has not ended `STRAY_AFTER_S` after
the first time is a stray. Its slot is free for other work; it runs on until it ends by itself, and can do
no harm with its lease gone. Strays are counted: a worker with as many as slots takes no more work and ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from chimera.core.lease import Claim, Lease

log = structlog.get_logger(__name__)

STRAY_AFTER_S = 5.0
"""A cancelled attempt that has not ended after this long loses its slot."""


@dataclass(slots=True, eq=False)
class Slot:
    """A claim under way.

    Attributes:
        told_at: when it was first cancelled (this process's clock), or None.
        handed_back: its end is on the way to the store, which frees the slot.
    """

    claim: Claim
    high: bool = False
    """Set by `Slots.begin`."""
    task: asyncio.Task[None] | None = None
    told_at: float | None = None
    handed_back: bool = False


class Slots:
    """The slots in use, by lease.

    Args:
        freed: called whenever one becomes free.
    """

    def __init__(self, freed: Callable[[], None]) -> None:
        self._freed = freed
        self._held: dict[Lease, Slot] = {}
        self._high = 0
        self._strays: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._held.values()))

    @property
    def ordinary(self) -> int:
        """Those in use that hold no task of high priority."""
        return len(self._held) - self._high

    @property
    def strays(self) -> int:
        """Attempts that lost their slots and still run."""
        return len(self._strays)

    def leases(self) -> list[Lease]:
        """What to renew. May be called from another thread: a copy made in one step of the interpreter."""
        return list(self._held)

    def take(self, claim: Claim) -> Slot:
        """Use a slot for a claim: from now on its lease is renewed."""
        slot = self._held[claim.lease] = Slot(claim)
        return slot

    def free(self, claim: Claim) -> None:
        """Give a claim's slot back; nothing happens when it was before."""
        slot = self._held.pop(claim.lease, None)
        if slot is not None:
            self._high -= slot.high
            self._freed()

    def begin(self, slot: Slot, task: asyncio.Task[None], *, high: bool = False) -> None:
        """The attempt begins. Cancelled, it has nothing to report: its slot is free as soon as it ends."""
        slot.task = task
        slot.high = high
        self._high += high
        task.add_done_callback(
            lambda ended: self.free(slot.claim) if ended.cancelled() and not slot.handed_back else None
        )

    def stop(self, lease: Lease, event: str, detail: str) -> None:
        """Cancel an attempt, for the reason that `event` names. Called again until the slot is free."""
        slot = self._held.get(lease)
        if slot is None or slot.task is None or slot.task.done():
            return
        now = time.monotonic()
        if slot.told_at is None:
            slot.told_at = now
            log.warning(event, task_id=slot.claim.task_id, detail=detail)
        slot.task.cancel()
        if now - slot.told_at > STRAY_AFTER_S:
            self._give_up(slot, slot.task)

    def hand_back(self, *, high: bool = True) -> list[Claim]:
        """Cancel all attempts that still run. Their claims, each once: whoever takes them frees them.

        Args:
            high: those of high priority too.
        """
        claims = []
        for slot in self:
            if slot.high and not high:
                continue
            if slot.task is not None and not slot.task.done() and not slot.handed_back:
                slot.handed_back = True
                slot.task.cancel()
                claims.append(slot.claim)
        return claims

    def _give_up(self, slot: Slot, task: asyncio.Task[None]) -> None:
        self._strays.add(task)
        task.add_done_callback(self._strays.discard)
        log.error(
            "agent.ignores_cancellation",
            task_id=slot.claim.task_id,
            strays=self.strays,
            next_step="let asyncio.CancelledError pass: catch it only to clean up, and raise it again",
        )
        self.free(slot.claim)
