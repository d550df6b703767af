"""A tenant's tally: what happened since its first event, as the scripts in Redis count it. Pure.

Counts are the recorder's, by kind of event; times and tokens are counted beside them in the same step
(store/lua/include/record.lua). They are figures, not books: a worker adds to those of its own tenant, so an
agent that takes a worker over may tell too much there. Money is in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chimera.core.event import KINDS
from chimera.core.histogram import BOUNDS_MS, Histogram
from chimera.core.task import Priority
from chimera.errors import RefusalKind

TIMES = (*(f"task:{priority.value}" for priority in Priority), "attempt", "verdict", "model")
"""What is timed: a task by its mission's priority, from ready to accepted, whatever it waited for; an
attempt, from its claim to its end; a verdict, from when a judge took the result; a settled model call."""
TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
"""Of settled calls. Input includes the cached, output those of reasoning."""
REFUSALS: tuple[str, ...] = tuple(f"refused:{kind.value}" for kind in RefusalKind)
"""Refused reservations by kind."""
BUCKETS = len(BOUNDS_MS) + 1

_TIMED = {name: tuple(f"{name}:{bucket}" for bucket in (*range(1, BUCKETS + 1), "ms")) for name in TIMES}

FIELDS: tuple[str, ...] = (*KINDS, *REFUSALS, *TOKENS, *(field for name in TIMES for field in _TIMED[name]))
"""Fields of the hash in Redis. Nothing else there is looked at."""
_KNOWN = frozenset(FIELDS)


@dataclass(frozen=True)
class Tally:
    """Totals of one tenant.

    Attributes:
        totals: field of `FIELDS` → how often, how many or how long (ms); what is 0 may be missing.
    """

    totals: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, values: Sequence[str | None]) -> Tally:
        """From the hash's values, in the order of `FIELDS`."""
        return cls({name: int(value) for name, value in zip(FIELDS, values, strict=True) if value})

    def of(self, name: str) -> int:
        """A total: of a kind of event (`task.accepted`), a refusal (`refused:window`), `input_tokens` …

        Raises:
            KeyError: nothing of that name is counted.
        """
        if name not in _KNOWN:
            raise KeyError(f"nothing is counted as {name!r}")
        return self.totals.get(name, 0)

    def times(self, name: str) -> Histogram:
        """Times of one of `TIMES`; raises KeyError as `of` does."""
        get = self.totals.get
        *within, ms = [get(field, 0) for field in _TIMED[name]]
        return Histogram(tuple(within), ms)

    def __sub__(self, earlier: Tally) -> Tally:
        """What came since an earlier look. A field that fell, for the store has lost writes, begins anew."""
        return Tally(dict(self._since(earlier)))

    def __add__(self, other: Tally) -> Tally:
        """Both together, as of two tenants."""
        names = {**self.totals, **other.totals}
        return Tally({name: self.totals.get(name, 0) + other.totals.get(name, 0) for name in names})

    def _since(self, earlier: Tally) -> Iterator[tuple[str, int]]:
        for name, total in self.totals.items():
            before = earlier.totals.get(name, 0)
            if total != before:
                yield name, total - before if total > before else total
