"""The epochs of one tenant's recorder: where in the stream each begins.

An entry in the stream bears no epoch, for scripts cannot know that the store restarted before they
ran. The archivist finds out, and says behind which entry the new epoch begins: what was written
meanwhile belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping

from chimera.core.event import Position


def order(entry: str) -> tuple[int, int]:
    """A stream id as what it is compared by."""
    ms, _, part = entry.partition("-")
    return int(ms), int(part or 0)


def just_before(entry: str) -> str:
    """A stream id that sorts before an entry, and behind every entry before it."""
    ms, part = order(entry)
    return f"{ms}-{part - 1}" if part else Position.before(ms).entry


class Epochs:
    """The table, from the hash in the store.

    Attributes:
        run: the store's process (`run_id`) under which the last epoch was opened; "" before the first.
        current: the last epoch.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.run = fields.get("run", "")
        begins = (
            Position(int(epoch), *_place(value)) for epoch, value in fields.items() if epoch.isdecimal()
        )
        self._begins = sorted(begins)
        self.current = self._begins[-1].epoch if self._begins else 1

    def of(self, entry: str) -> int:
        """The epoch of a stream entry."""
        at = order(entry)
        return max((begin.epoch for begin in self._begins if order(begin.entry) < at), default=1)

    def __contains__(self, epoch: int) -> bool:
        """Whether it was opened here; the first need not be."""
        return epoch == 1 or any(begin.epoch == epoch for begin in self._begins)

    def after(self, epoch: int) -> Position | None:
        """What the next epoch begins behind: the last event before it. None: no next one is known."""
        return next((begin for begin in self._begins if begin.epoch > epoch), None)


def _place(value: str) -> tuple[int, str]:
    seq, entry = value.split()
    return int(seq), entry
