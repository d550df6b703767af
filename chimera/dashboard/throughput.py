"""Throughput: what is handed in, accepted, rejected, escalated; how long it takes; what judges say.

A window's figures are the difference of two samples (`core/series.py`), so they cost the same for an hour as
for five minutes. The curve of the last hour is made of all samples, read once and kept (`Histories`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum

from pydantic import Field

from chimera.core.series import KEPT_S, Sample
from chimera.core.tally import TIMES, Tally
from chimera.core.views import View
from chimera.runtime.base import Base
from chimera.store.series import bounds, series
from chimera.store.series import now_ms as store_now_ms

CURVES: Mapping[str, tuple[str, ...]] = {
    "submitted": ("task.submitted",),
    "accepted": ("task.accepted", "task.approved"),
    "rejected": ("task.rejected", "task.declined"),
    "escalated": ("task.escalated",),
}
"""What is drawn: each the sum of these kinds of events."""
RATES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "missions": ("Missions submitted", ("mission.submitted",)),
    "claimed": ("Attempts begun", ("task.claimed",)),
    "submitted": ("Results handed in", CURVES["submitted"]),
    "accepted": ("Accepted", CURVES["accepted"]),
    "rejected": ("Rejected", CURVES["rejected"]),
    "escalated": ("Escalated to a human", CURVES["escalated"]),
    "failed": ("Tasks failed", ("task.failed",)),
}
LATENCIES: Mapping[str, str] = {
    "task:high": "Task, high priority: ready to accepted",
    "task:medium": "Task, medium priority",
    "task:low": "Task, low priority",
    "attempt": "Attempt: claimed to handed in",
    "verdict": "Verdict: handed in to judged",
    "model": "Model call",
}
TOLD: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "verdicts": {
        "accept": ("task.accepted",),
        "reject": ("task.rejected",),
        "escalate": ("task.escalated",),
        "approved by a human": ("task.approved",),
        "rejected by a human": ("task.declined",),
    },
    "refusals": {
        "contended": ("refused:contended",),
        "window": ("refused:window",),
        "exhausted": ("refused:exhausted",),
    },
    "rescues": {
        "tasks rescued": ("task.rescued",),
        "reviews rescued": ("review.rescued",),
        "workers that were only late": ("task.lapsed",),
        "attempts that erred": ("task.erred",),
        "attempts that ran out of time": ("task.timed_out",),
    },
}
STEP_S = 10
"""Between two points of the curves."""
CHUNK = 20
"""Tenants whose whole hour is read at once: the rest of the loop has its turn between."""
FORGOTTEN_S = 600.0
assert set(LATENCIES) == set(TIMES)


class Span(IntEnum):
    """Over how long figures are told, s."""

    FIVE_MINUTES = 300
    QUARTER = 900
    HOUR = 3_600


class RateRow(View):
    """How often something happened."""

    name: str
    title: str
    count: int
    per_s: float | None = Field(description="Null: nothing is known of the time.")


class LatencyRow(View):
    """How long something took, by buckets (`core/histogram.py`)."""

    name: str
    title: str
    count: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    mean_ms: float | None


class ThroughputPanel(View):
    """What got done in a window."""

    at: datetime = Field(description="The store's clock.")
    window_s: int
    covered_s: float = Field(description="Of these so many are known; 0: nothing is.")
    rates: tuple[RateRow, ...]
    latencies: tuple[LatencyRow, ...]
    verdicts: dict[str, int] = Field(description="By decision.")
    refusals: dict[str, int] = Field(description="Reservations that limits refused, by kind.")
    rescues: dict[str, int] = Field(description="What went wrong on the way.")


class Curves(View):
    """What happened per second, at instants (s since the epoch)."""

    at: tuple[int, ...]
    submitted: tuple[float, ...]
    accepted: tuple[float, ...]
    rejected: tuple[float, ...]
    escalated: tuple[float, ...]


class RatesPanel(View):
    """The last hour."""

    series: Curves = Field(description="Every ten seconds.")
    minutes: Curves = Field(description="The same by the minute, the newest first.")


async def throughput_panel(base: Base, tenants: Sequence[str], span: Span) -> ThroughputPanel:
    """What these tenants got done together, in two round trips."""
    now_ms = await store_now_ms(base.redis)
    start_ms = now_ms - span * 1_000
    total, known_ms = Tally(), now_ms
    for first, last in (await bounds(base.redis, tenants, start_ms)).values():
        if first is not None and last is not None:
            known_ms = min(known_ms, max(first.at_ms, start_ms))
            total = total + (last.tally - first.tally)
    covered_s = (now_ms - known_ms) / 1_000
    return ThroughputPanel(
        at=datetime.fromtimestamp(now_ms / 1_000, UTC),
        window_s=span,
        covered_s=covered_s,
        rates=tuple(_rate(total, name, covered_s) for name in RATES),
        latencies=tuple(_latency(total, name) for name in LATENCIES),
        **{part: {title: _sum(total, kinds) for title, kinds in rows.items()} for part, rows in TOLD.items()},
    )


def _sum(total: Tally, kinds: Sequence[str]) -> int:
    return sum(map(total.of, kinds))


def _rate(total: Tally, name: str, covered_s: float) -> RateRow:
    title, kinds = RATES[name]
    count = _sum(total, kinds)
    return RateRow(name=name, title=title, count=count, per_s=count / covered_s if covered_s else None)


def _latency(total: Tally, name: str) -> LatencyRow:
    times = total.times(name)
    return LatencyRow(
        name=name,
        title=LATENCIES[name],
        count=times.count,
        p50_ms=times.percentile(0.5),
        p90_ms=times.percentile(0.9),
        p99_ms=times.percentile(0.99),
        mean_ms=times.mean_ms,
    )


Point = tuple[int, tuple[int, ...]]
"""When (ms), and the totals of `CURVES`."""


@dataclass(slots=True)
class History:
    """One tenant's last hour."""

    points: deque[Point] = field(default_factory=deque)
    read_ms: int = 0

    def add(self, samples: Sequence[Sample], now_ms: int) -> None:
        """Take what is newer than what is known, and let go what is too old."""
        for one in samples:
            if not self.points or one.at_ms > self.points[-1][0]:
                totals = tuple(_sum(one.tally, kinds) for kinds in CURVES.values())
                self.points.append((one.at_ms, totals))
        # One older than the hour stays: it says how things stood when the hour began.
        while len(self.points) > 1 and self.points[1][0] < now_ms - KEPT_S * 1_000:
            self.points.popleft()
        self.read_ms = now_ms


@dataclass(eq=False)
class Histories:
    """Every tenant's last hour, as far as this process was asked for it."""

    _of: dict[str, History] = field(default_factory=dict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def rates(self, base: Base, tenants: Sequence[str]) -> RatesPanel:
        """What these tenants did together in the last hour.

        One round trip for those that are known, and one for every `CHUNK` that are not.
        """
        now_ms = await store_now_ms(base.redis)
        async with self._reading:
            forgotten = now_ms - round(FORGOTTEN_S * 1_000)
            self._of = {one: kept for one, kept in self._of.items() if kept.read_ms > forgotten}
            await self._read(base, [one for one in tenants if one in self._of], now_ms)
            unknown = [one for one in tenants if one not in self._of]
            for first in range(0, len(unknown), CHUNK):
                await self._read(base, unknown[first : first + CHUNK], now_ms)
        return curves([self._of[one].points for one in tenants if one in self._of], now_ms)

    async def _read(self, base: Base, tenants: Sequence[str], now_ms: int) -> None:
        if not tenants:
            return
        known_ms = min(self._of[one].read_ms if one in self._of else 0 for one in tenants)
        since_s = min(KEPT_S, (now_ms - known_ms) / 1_000 + STEP_S)
        found = await series(base.redis, tenants, since_s=since_s, now=now_ms / 1_000)
        for tenant, samples in found.items():
            self._of.setdefault(tenant, History()).add(samples, now_ms)
            await asyncio.sleep(0)


def curves(histories: Sequence[Sequence[Point]], now_ms: int) -> RatesPanel:
    """Points of many tenants → what all did together, by ten seconds and by the minute. Pure."""
    minutes = _curves(histories, now_ms, 60)
    return RatesPanel(series=_curves(histories, now_ms, STEP_S), minutes=_reversed(minutes))


def _curves(histories: Sequence[Sequence[Point]], now_ms: int, step_s: int) -> Curves:
    step = step_s * 1_000
    end = now_ms // step  # the step that now is in is not over, and not told
    count = round(KEPT_S) // step_s
    begin = end - count
    sums = [[0] * count for _ in CURVES]
    for points in histories:
        before: Sequence[int] | None = None
        for at_ms, totals in points:
            place = at_ms // step - begin
            if before is not None and 0 <= place < count:
                for curve, was, now in zip(sums, before, totals, strict=True):
                    curve[place] += now - was if now >= was else now  # one that fell began anew
            before = totals
    told = {name: tuple(one / step_s for one in curve) for name, curve in zip(CURVES, sums, strict=True)}
    return Curves(at=tuple((begin + place) * step_s for place in range(count)), **told)


def _reversed(found: Curves) -> Curves:
    return Curves(**{name: values[::-1] for name, values in found})
