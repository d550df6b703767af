"""A tenant's last hour: samples of its tally and of what stood then, and the time between them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chimera.core import gauges, tally
from chimera.core.gauges import Gauges
from chimera.core.tally import Tally

EVERY_S = 5.0
"""A sample is taken so often, of tenants that changed."""
KEPT_S = 3_600.0
"""So far back they reach."""

_ORDER = (*gauges.NAMES, *tally.FIELDS)
NAMED = hashlib.sha256(" ".join(_ORDER).encode()).hexdigest()[:8]
"""Names the order in which a sample's figures are written. Samples of another version are not read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One tenant at one instant.

    Attributes:
        at_ms: the store's clock, Unix ms.
    """

    at_ms: int
    tally: Tally
    gauges: Gauges

    def text(self) -> str:
        """As it is stored: ``place:figure`` of all that is not 0, by the places of the version `NAMED`."""
        figures = [*(getattr(self.gauges, name) for name in gauges.NAMES)]
        figures += [self.tally.totals.get(name, 0) for name in tally.FIELDS]
        return " ".join(f"{place:x}:{figure}" for place, figure in enumerate(figures) if figure)

    @classmethod
    def parse(cls, at_ms: int, text: str) -> Sample:
        """From what `text` made. Raises ValueError: it is not of this version."""
        figures = {}
        for pair in text.split():
            place, _, figure = pair.partition(":")
            if int(place, 16) >= len(_ORDER):
                raise ValueError(f"a sample has no place {place!r}")
            figures[_ORDER[int(place, 16)]] = int(figure)
        stands = Gauges(*(figures.pop(name, 0) for name in gauges.NAMES))
        return cls(at_ms, Tally(figures), stands)


@dataclass(frozen=True, slots=True)
class Rate:
    """What happened between two samples.

    Attributes:
        at_ms: the later one's instant.
        seconds: the time between them, more than 0.
        since: the difference of their tallies: `since.times("verdict").percentile(0.99)` is of this time
            alone.
        spent_microusd: settled in it, corrections included: it may be negative.
        gauges: what stood at its end.
    """

    at_ms: int
    seconds: float
    since: Tally
    spent_microusd: int
    gauges: Gauges

    def of(self, name: str) -> float:
        """A total's rate, per second; raises KeyError as `Tally.of` does."""
        return self.since.of(name) / self.seconds

    @property
    def microusd_per_s(self) -> float:
        """Money spent, µ$ per second."""
        return self.spent_microusd / self.seconds


def rates(samples: Sequence[Sample]) -> list[Rate]:
    """What happened between each sample and the next, oldest first; samples of the same instant are one."""
    told = []
    for before, after in pairwise(samples):
        if after.at_ms > before.at_ms:
            told.append(_between(before, after))
    return told


def overall(samples: Sequence[Sample]) -> Rate | None:
    """What happened from the first sample to the last; None where there are not two."""
    if len(samples) < 2 or samples[-1].at_ms <= samples[0].at_ms:
        return None
    return _between(samples[0], samples[-1])


def together(by_tenant: Mapping[str, Sequence[Sample]]) -> list[Sample]:
    """Samples of the whole fleet: at each instant of any tenant the sum of what each had last, oldest first.

    Before a tenant's first sample that one counts for it, so that a tenant which comes in late is no burst.
    """
    last = {tenant: samples[0] for tenant, samples in by_tenant.items() if samples}
    told: list[Sample] = []
    for at_ms, tenant, sample in sorted(
        ((one.at_ms, tenant, one) for tenant, samples in by_tenant.items() for one in samples),
        key=lambda found: found[0],
    ):
        last[tenant] = sample
        whole, stands = Tally(), Gauges()
        if told and told[-1].at_ms == at_ms:
            told.pop()
        for one in last.values():
            whole, stands = whole + one.tally, stands + one.gauges
        told.append(Sample(at_ms, whole, stands))
    return told


def _between(before: Sample, after: Sample) -> Rate:
    return Rate(
        at_ms=after.at_ms,
        seconds=(after.at_ms - before.at_ms) / 1000,
        since=after.tally - before.tally,
        spent_microusd=after.gauges.settled_microusd - before.gauges.settled_microusd,
        gauges=after.gauges,
    )
