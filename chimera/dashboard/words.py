"""Figures in words and units that people read: money, times, rates. Pure."""

from __future__ import annotations

from datetime import datetime

from chimera.core.money import MICRO

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def dollars(amount_microusd: int) -> str:
    """µ$ → ``$1,234.56``; less than a dollar with as many places as it takes to see it."""
    sign, amount = ("-" if amount_microusd < 0 else ""), abs(amount_microusd)
    if amount == 0:
        return "$0"
    if amount >= MICRO:
        return f"{sign}${amount / MICRO:,.2f}"
    return f"{sign}${amount / MICRO:.4f}" if amount >= 1_000 else f"{sign}${amount / MICRO:.6f}"


def span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``4 d 2 h``: how long, to the two largest units."""
    left = max(0, round(seconds))
    if left < MINUTE:
        return f"{left} s"
    if left < HOUR:
        return f"{left // MINUTE} min"
    if left < DAY:
        return _two(left // HOUR, "h", left % HOUR // MINUTE, "min")
    return _two(left // DAY, "d", left % DAY // HOUR, "h")


def until(at: datetime | None, now: datetime) -> str:
    """``in 3 h 20 min``; "" where there is no instant."""
    return "" if at is None else f"in {span((at - now).total_seconds())}"


def ago(at: datetime | None, now: datetime) -> str:
    """``12 min ago``; "" where there is no instant."""
    return "" if at is None else f"{span((now - at).total_seconds())} ago"


def milliseconds(ms: float | None) -> str:
    """``85 ms``, ``1.2 s``, ``3 min``; an en dash where nothing was measured."""
    if ms is None:
        return "–"
    if ms < 1_000:
        return f"{ms:.0f} ms"
    return f"{ms / 1_000:.1f} s" if ms < 100_000 else span(ms / 1_000)


def rate(per_s: float | None) -> str:
    """``12.3/s``, or by the minute where it is less than one in ten seconds."""
    if per_s is None:
        return "–"
    if per_s == 0:
        return "0"
    return f"{per_s:,.1f}/s" if per_s >= 0.1 else f"{per_s * MINUTE:.1f}/min"


def bytes_(count: int) -> str:
    """``512 B``, ``1.4 KiB``, ``3.0 MiB``."""
    if count < 1_024:
        return f"{count} B"
    return f"{count / 1_024:.1f} KiB" if count < 1_048_576 else f"{count / 1_048_576:.1f} MiB"


def _two(many: int, unit: str, few: int, smaller: str) -> str:
    return f"{many} {unit} {few} {smaller}" if few else f"{many} {unit}"
