"""How fast money goes, when a limit is reached, what a year would come to: by the ledger's counters. Pure.

Nothing is extrapolated from too little. Every figure says how many hours or days of data it rests on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, stdev

from chimera.core.audit import SETTLED
from chimera.core.calendar import begins, ends, window_id, window_of
from chimera.core.money import Window
from chimera.core.recurrence import YEAR_H

Figures = Mapping[str, int]
"""A subject's figures, as the ledger has them: ``held``, ``settled:day:2026-11-22`` …"""
LEAST_MINUTES, LEAST_HOURS, LEAST_DAYS = 10, 6, 3
"""Of data: less is not made into a rate (minutes), or a year (hours, days)."""
MOST_HOURS, MOST_DAYS = 48, 28
"""A year is made of so many of the last full days, else of so many of the last full hours."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast money went over a span that ends now.

    Attributes:
        microusd_per_h: µ$ an hour.
        hours: the span.
        spent_microusd: what went in it.
    """

    microusd_per_h: int
    hours: float
    spent_microusd: int


@dataclass(frozen=True, slots=True)
class Year:
    """What a year would come to if things went on so.

    Attributes:
        low_microusd, likely_microusd, high_microusd: the mean of the units, and two standard errors either
            side, times a year; never below 0.
        unit: ``day`` or ``hour``: full ones.
        units: how many it rests on.
        least_microusd, most_microusd: the cheapest and the dearest of them.
    """

    low_microusd: int
    likely_microusd: int
    high_microusd: int
    unit: str
    units: int
    least_microusd: int
    most_microusd: int


@dataclass(frozen=True, slots=True)
class Level:
    """A limit, and how much of it is left.

    Attributes:
        level: as refusals name it: ``tenant/day``, ``agent/NAME/hour``, ``mission``.
        resets_at: when its window starts anew; None: never.
        microusd_per_h: how fast it is used up; None where too little is known.
        cap_at: when nothing would be left at that pace; None: not before it starts anew, or nobody knows.
        rests_on: what the pace rests on, in words.
    """

    level: str
    limit_microusd: int
    settled_microusd: int
    held_microusd: int
    resets_at: datetime | None = None
    microusd_per_h: int | None = None
    cap_at: datetime | None = None
    rests_on: str = ""

    @property
    def left_microusd(self) -> int:
        """What a new call may take at most."""
        return max(0, self.limit_microusd - self.settled_microusd - self.held_microusd)


def settled(figures: Figures, identity: str) -> int:
    """What was settled in a window."""
    return figures.get(SETTLED + identity, 0)


def since(figures: Figures, now: datetime) -> datetime | None:
    """When the first charge was that the counters show, to the minute, the hour or the day; None: none."""
    first: dict[Window, datetime] = {}
    for name in figures:
        identity = name.removeprefix(SETTLED)
        if name.startswith(SETTLED) and (window := window_of(identity)) in {
            Window.MINUTE,
            Window.HOUR,
            Window.DAY,
        }:
            start = begins(identity)
            first[window] = min(first.get(window, start), start)
    if Window.DAY not in first:
        return None
    found = first[Window.DAY]
    # A finer counter tells more where it reaches as far back.
    for window, span in ((Window.HOUR, DAY), (Window.MINUTE, HOUR)):
        if window in first and found <= first[window] < found + span:
            found = first[window]
    return min(found, now)


def pace(figures: Figures, now: datetime, window: Window, most: timedelta) -> Pace | None:
    """How fast money went over the last `most`, or since the first charge; None: too little is known.

    Args:
        window: whose counters are added up: minutes reach back 3 hours, hours 3 days.
    """
    first = since(figures, now)
    if first is None:
        return None
    start = max(first, now - most)
    if now - start < timedelta(minutes=LEAST_MINUTES):
        return None
    start = begins(window_id(window, start))  # a counter is counted from its beginning on
    spent = sum(
        amount
        for name, amount in figures.items()
        if name.startswith(f"{SETTLED}{window}:") and begins(name.removeprefix(SETTLED)) >= start
    )
    hours = (now - start) / HOUR
    return Pace(round(spent / hours), hours, spent)


def year(figures: Figures, now: datetime) -> Year | str:
    """A year's cost by the last full days, else by the last full hours; or why nothing can be said."""
    first = since(figures, now)
    if first is None:
        return "nothing was spent yet: there is nothing to extrapolate from"
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    days = _full(figures, Window.DAY, first, today, DAY, MOST_DAYS)
    if len(days) >= LEAST_DAYS:
        return _year(days, "day", YEAR_H / 24)
    hours = _full(figures, Window.HOUR, first, this_hour, HOUR, MOST_HOURS)
    if len(hours) >= LEAST_HOURS:
        return _year(hours, "hour", YEAR_H)
    return (
        f"{len(hours)} full hours of data are too little to extrapolate from: {LEAST_HOURS} hours are "
        "needed, "
        f"{LEAST_DAYS} full days are better"
    )


def _full(
    figures: Figures, window: Window, first: datetime, end: datetime, step: timedelta, most: int
) -> list[int]:
    """What was settled in each of the last full units before `end`.

    Quiet ones count. The first of all does not, for it may have begun before.
    """
    found: list[int] = []
    start = end - step
    while len(found) < most and start > first:
        found.append(settled(figures, window_id(window, start)))
        start -= step
    return found


def _year(units: Sequence[int], unit: str, times: float) -> Year:
    mean = fmean(units)
    error = 2 * stdev(units) / math.sqrt(len(units))
    return Year(
        low_microusd=round(max(0.0, mean - error) * times),
        likely_microusd=round(mean * times),
        high_microusd=round((mean + error) * times),
        unit=unit,
        units=len(units),
        least_microusd=min(units),
        most_microusd=max(units),
    )


def level(name: str, limit: int, figures: Figures, now: datetime) -> Level:
    """One limit of a subject and how it stands.

    Args:
        name: as refusals have it: ``tenant/day``, ``agent/NAME/day``.
    """
    window = Window(name.rpartition("/")[2])
    identity = window_id(window, now)
    spent, held, resets = settled(figures, identity), figures.get("held", 0), ends(identity)
    short = window in {Window.MINUTE, Window.HOUR, Window.DAY}
    found = (
        pace(figures, now, Window.MINUTE, HOUR)
        if short
        else pace(figures, now, Window.HOUR, timedelta(days=1))
    )
    if found is None:
        said = f"less than {LEAST_MINUTES} minutes of data: no pace"
        return Level(name, limit, spent, held, resets, rests_on=said)
    cap = None
    if found.microusd_per_h > 0:
        hours = max(0, limit - spent - held) / found.microusd_per_h
        at = now + timedelta(hours=min(hours, YEAR_H * 1_000))
        cap = at if resets is None or at < resets else None
    return Level(
        name, limit, spent, held, resets, found.microusd_per_h, cap, f"the last {found.hours:.1f} hours"
    )
