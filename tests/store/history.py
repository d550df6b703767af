"""Makes entries of a flight recorder, by the part of the scripts that writes them; archives them by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence

from chimera.core.event import Event, Position
from chimera.core.money import Window
from chimera.runtime.archivist import Archivist
from chimera.runtime.base import Base
from chimera.runtime.elector import Elector
from chimera.store.segments import Entry, Line
from tests.store import drive

LIMITS = (Window.MINUTE, Window.HOUR, Window.DAY)


async def write(base: Base, tenant: str, entries: int) -> None:
    """So many entries of one event each."""
    for number in range(entries):
        await base.of(tenant).ledger.set_limits({LIMITS[number % 3]: number + 1}, by=f"writer {number}")


async def mission(base: Base, tenant: str, mission_id: str, inputs: int = 2) -> None:
    """A mission, done from beginning to end: entries of one event and of many."""
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(inputs))), mission_id)
    await drive.finish(stores, inputs)
    await stores.missions.settle(mission_id, term=drive.TERM, by="hub")


def archivist(base: Base) -> Archivist:
    """One that nobody elected: its calls are given the term."""
    return Archivist(base, Elector(base.election("orchestrator"), "hub-1"))


async def archive(base: Base, tenant: str, by: Archivist | None = None, *, term: int = drive.TERM) -> None:
    """Archive all there is, and trim."""
    by = by or archivist(base)
    while await by.tend(tenant, term=term, flush=True):
        pass


async def read(base: Base, tenant: str, **kwargs: object) -> list[Line]:
    """All of a tenant's recorder."""
    return [line async for line in base.of(tenant).recorder.read(**kwargs)]  # type: ignore[arg-type]  # (wider than declared, on purpose)


def numbers(lines: Sequence[Line]) -> list[tuple[int, int]]:
    """Epoch and number of each event."""
    return [(event.epoch, event.seq) for _, event in lines]


def events(count: int, *, epoch: int = 1, first: int = 1, missions: int = 1) -> list[Line]:
    """Invented events, an entry each."""
    return [
        (
            Position(epoch, seq, f"{1_790_000_000_000 + seq}-0"),
            Event.model_validate(
                {
                    "tenant": "acme",
                    "epoch": epoch,
                    "seq": seq,
                    "at": (1_790_000_000_000 + seq) / 1000,
                    "kind": "task.claimed",
                    "by": "w1",
                    "mission_id": f"m{seq % missions}",
                    "details": {"text": "ü\u2028\n", "figure": 0.5},
                }
            ),
        )
        for seq in range(first, first + count)
    ]


def written(lines: Sequence[Line]) -> list[Entry]:
    """The entries of the stream that these events came in, each of them one event."""
    return [
        Entry(
            at.epoch,
            at.entry,
            {
                "seq": str(event.seq),
                "at": str(round(event.at.timestamp() * 1e6)),
                "by": event.by,
                "events": json.dumps([[event.kind, event.mission_id, event.task_id, event.details]]),
            },
        )
        for at, event in lines
    ]
