"""Times counted by bucket: what a histogram of Prometheus is made of, and percentiles of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from operator import add, sub

BOUNDS_MS = (5, 25, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000)
"""Upper bounds of the buckets, as the scripts have them (lua/include/record.lua); one more is beyond all."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Some times.

    Attributes:
        within: how many took at most each of `BOUNDS_MS` and more than the one before; the last, more
            than all.
        ms: how long all took together.
    """

    within: tuple[int, ...] = (0,) * (len(BOUNDS_MS) + 1)
    ms: int = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.within)

    @property
    def mean_ms(self) -> float | None:
        """Their mean; None of none."""
        return self.ms / self.count if self.count else None

    def percentile(self, q: float) -> float | None:
        """The time (ms) that a share `q` of them did not exceed, as nearly as buckets tell.

        Within its bucket it is taken to lie as far as its rank does. Of what is beyond the last bound the
        bound is told: the real time is longer. None of no times.

        Args:
            q: 0 to 1.
        """
        rank, below, lower = q * self.count, 0, 0
        if not self.count:
            return None
        for bound, inside in zip(BOUNDS_MS, self.within, strict=False):
            if inside and below + inside >= rank:
                return lower + (bound - lower) * max(0.0, rank - below) / inside
            below, lower = below + inside, bound
        return float(BOUNDS_MS[-1])

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(tuple(map(add, self.within, other.within)), self.ms + other.ms)

    def __sub__(self, earlier: Histogram) -> Histogram:
        """What came since an earlier look; all of it where that had more, for the store has lost some."""
        since = tuple(map(sub, self.within, earlier.within))
        return self if min(since) < 0 or self.ms < earlier.ms else Histogram(since, self.ms - earlier.ms)
