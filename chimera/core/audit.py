"""Whether a ledger is what its flight recorder says: a cut of the one against a replay of the other. Pure."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from chimera.core.calendar import is_kept
from chimera.core.replay import Replay

SETTLED = "settled:"
"""Before the window id, in a subject's figures."""


class Cut(BaseModel):
    """A ledger as it stood at one instant, and the last entry of the recorder at that instant.

    Attributes:
        seq: that entry's number.
        at: the store's clock.
        subjects: figures by field (``held``, ``settled:day:2026-11-22``, ``calls``) of each subject: ``""``
            is the tenant, the others ``agent/NAME`` and ``model/NAME``.
        missions: ``(settled, held)`` of missions that are in the store.
        holds: open holds; None where they were not read.
        whole: every subject of the ledger is here, so one that is missing has drifted.
    """

    model_config = ConfigDict(frozen=True)

    seq: int
    at: datetime
    subjects: dict[str, dict[str, int]] = {}
    missions: dict[str, tuple[int, int]] = {}
    holds: tuple[str, ...] | None = None
    whole: bool = True


class Drift(BaseModel):
    """One figure that differs.

    Attributes:
        level: ``tenant``, ``agent/NAME``, ``model/NAME`` or ``mission/ID``.
        figure: ``held``, ``settled``, ``calls`` or a window id.
        ledger, recorder: what either says, µ$ (calls: how many).
    """

    model_config = ConfigDict(frozen=True)

    level: str
    figure: str
    ledger: int
    recorder: int

    def __str__(self) -> str:
        return (
            f"{self.level} {self.figure}: {self.ledger} in the ledger, {self.recorder} recorded "
            f"({self.ledger - self.recorder:+d})"
        )


class Found(BaseModel):
    """What comparing one cut showed: how many figures were compared, and those that differ."""

    model_config = ConfigDict(frozen=True)

    checked: int
    drifts: tuple[Drift, ...]


def drifts(replay: Replay, cut: Cut) -> Found:
    """Compare a cut with a replay that stands at its entry.

    Windows that either side may have forgotten, for they are long over, are passed over.
    """
    pairs: dict[tuple[str, str], tuple[int, int]] = {}
    recorded = _recorded(replay, cut.at)
    wanted = set(cut.subjects) | (set(recorded) if cut.whole else set())
    for subject in sorted(wanted):
        stored, said = cut.subjects.get(subject, {}), recorded.get(subject, {})
        for figure in sorted(_figures(stored, cut.at) | set(said)):
            level = subject or "tenant"
            pairs[level, figure.removeprefix(SETTLED)] = stored.get(figure, 0), said.get(figure, 0)
    for mission, (settled, held) in sorted(cut.missions.items()):
        pairs[f"mission/{mission}", "settled"] = settled, replay.spent[mission]
        pairs[f"mission/{mission}", "held"] = held, replay.mission_held[mission]
    if cut.holds is not None:
        ours, theirs = replay.open_holds, set(cut.holds)
        for name in sorted(theirs | set(ours)):
            pairs["tenant", f"open hold {name}"] = int(name in theirs), int(name in ours)
    return Found(
        checked=len(pairs),
        drifts=tuple(
            Drift(level=level, figure=figure, ledger=ledger, recorder=said)
            for (level, figure), (ledger, said) in pairs.items()
            if ledger != said
        ),
    )


def _figures(stored: dict[str, int], at: datetime) -> set[str]:
    """Of a subject's fields those that can be compared."""
    return {
        name
        for name in stored
        if name in {"held", "calls"} or (name.startswith(SETTLED) and is_kept(name.removeprefix(SETTLED), at))
    }


def _recorded(replay: Replay, at: datetime) -> dict[str, dict[str, int]]:
    """The replay's figures, in a cut's shape; what is 0 is left out."""
    found: dict[str, dict[str, int]] = {}
    for (subject, identity), amount in replay.settled.items():
        if amount and is_kept(identity, at):
            found.setdefault(subject, {})[SETTLED + identity] = amount
    for subject, held in replay.held.items():
        if held:
            found.setdefault(subject, {})["held"] = held
    for subject, calls in replay.calls.items():
        if calls:
            found.setdefault(subject, {})["calls"] = calls
    return found
