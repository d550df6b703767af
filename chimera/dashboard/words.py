"""Figures as people read them, beside those of `rendering.py`: rates, latencies, sizes. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

NARROW_SPACE = "\u202f"


def latency(ms: float | None) -> str:
    """``85 ms``, ``1.2 s``, ``140 s``; a dash where nothing was measured."""
    if ms is None:
        return "–"
    if ms < 1_000:
        return f"{ms:.0f}{NARROW_SPACE}ms"
    return f"{ms / 1_000:.1f}{NARROW_SPACE}s" if ms < 100_000 else f"{ms / 1_000:.0f}{NARROW_SPACE}s"


def rate(per_s: float | None) -> str:
    """``12.3/s``, by the minute where it is less than one in ten seconds; a dash where nothing is known."""
    if per_s is None:
        return "–"
    if per_s == 0:
        return "0"
    return f"{per_s:,.1f}/s" if per_s >= 0.1 else f"{per_s * 60:.1f}/min"


def clock(at_s: int) -> str:
    """Seconds since the epoch → ``14:05``, UTC."""
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M}"


def size(count: int) -> str:
    """Bytes: ``512 B``, ``1.4 KiB``, ``3.0 MiB``."""
    if count < 1_024:
        return f"{count}{NARROW_SPACE}B"
    if count < 1_048_576:
        return f"{count / 1_024:.1f}{NARROW_SPACE}KiB"
    return f"{count / 1_048_576:.1f}{NARROW_SPACE}MiB"
