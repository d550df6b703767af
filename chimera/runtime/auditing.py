"""The audit: each ledger against its flight recorder, and what was charged against a provider's invoice.

Works beside a fleet that is at work. What of the ledger is read together with the recorder's number is
compared with a replay up to that number; what happens meanwhile comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

from pydantic import Field

from chimera.core.audit import Drift, drifts
from chimera.core.event import BEGINNING, Position
from chimera.core.invoice import Comparing
from chimera.core.replay import Replay, survives
from chimera.core.usage import LEAD_S
from chimera.core.views import View
from chimera.errors import StoreUnavailable
from chimera.runtime.base import TenantStores
from chimera.runtime.unhurried import events

MARGIN = timedelta(days=2)
"""An invoice may have its own midnight: what lies so far beside its days is looked at for its requests."""


class AuditView(View):
    """What the audit of one tenant showed."""

    tenant: str
    entries: int = Field(description="Entries of the recorder about money that were replayed.")
    events: int = Field(description="All entries that were read.")
    seq: int = Field(description="The number up to which the ledger was recomputed.")
    checked: int = Field(description="Figures that were compared.")
    drifts: tuple[Drift, ...]
    wrong: tuple[str, ...] = Field(description="What the recorder itself says that cannot be.")
    lost: int = Field(
        description="Entries that were archived and that the store lost (a restart without its last writes)."
    )
    lost_microusd: int = Field(
        description="What these charged: it was spent, and the ledger does not have it."
    )

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.drifts and not self.wrong


async def audit(stores: TenantStores, tenant: str) -> AuditView:
    """Recompute a tenant's ledger from its recorder, and compare.

    Raises:
        StoreUnavailable: the store restarted meanwhile, or its recorder is not whole yet: audit again.
        CorruptRecord: events are missing.
    """
    cuts = [cut async for cut in stores.cuts.take()]
    starts = await stores.cuts.starts()
    replay = Replay(missions=frozenset(one for cut in cuts for one in cut.missions))
    found: list[Drift] = []
    checked = read = lost = lost_microusd = 0
    left = list(cuts)

    def compare() -> None:
        nonlocal checked
        done = drifts(replay, left.pop(0))
        checked += done.checked
        found.extend(done.drifts)

    async for event in events(stores.recorder):
        if not survives(event, starts):
            lost += 1
            lost_microusd += int(event.details.get("cost", 0)) if event.kind.startswith("spend.") else 0
            continue
        while left and left[0].seq < event.seq:
            compare()
        if not left:
            break
        read += 1
        replay.take(event)
    while left and left[0].seq <= replay.seq:
        compare()
    if left or await stores.cuts.starts() != starts:
        raise StoreUnavailable(
            f"the recorder of {tenant} goes to entry {replay.seq}, its ledger further, or the store "
            "restarted "
            "meanwhile: audit again in a moment"
        )
    return AuditView(
        tenant=tenant,
        entries=replay.entries,
        events=read,
        seq=max((cut.seq for cut in cuts), default=0),
        checked=checked,
        drifts=tuple(found),
        wrong=tuple(replay.wrong),
        lost=lost,
        lost_microusd=lost_microusd,
    )


async def compare_charges(stores: Iterable[TenantStores], comparing: Comparing) -> None:
    """Give an invoice's comparison the charges of these tenants, within its days and a margin.

    Raises:
        CorruptRecord, StoreUnavailable: a recorder cannot be read.
    """
    start, end = BEGINNING, None
    if comparing.since is not None:
        at = _midnight(comparing.since) - MARGIN - timedelta(seconds=LEAD_S)
        start = Position.before(round(at.timestamp() * 1000))
    if comparing.until is not None:
        end = _midnight(comparing.until) + MARGIN
    for one in stores:
        replay = Replay(sums=False)
        starts = await one.cuts.starts()
        async for event in events(one.recorder, after=start):
            if end is not None and event.at > end:
                break
            if survives(event, starts) and (change := replay.take(event)) is not None:
                comparing.take(change)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
