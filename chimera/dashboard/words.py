"""Figures, lengths of time and instants as people read them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

NARROW_SPACE = "\u202f"


def count(number: float) -> str:
    """``1234567`` → ``1,234,567``."""
    return f"{number:,.0f}"


def plural(number: float, one: str, many: str = "") -> str:
    """``1`` → ``1 worker``, ``2`` → ``2 workers``."""
    return f"{count(number)} {one if number == 1 else many or f'{one}s'}"


def usd(microusd: int) -> str:
    """Micro-dollars as people read them: cents from a dollar on, else as many digits as tell something."""
    dollars = microusd / 1e6
    if abs(dollars) >= 1 or not microusd:
        return f"${dollars:,.2f}"
    text = f"{dollars:.6f}".rstrip("0")
    return f"${text}" if len(text) >= 4 else f"${dollars:.2f}"


def span(seconds: float) -> str:
    """A length of time, in two figures at most: ``0.4 s``, ``12 s``, ``3 min``, ``5 h 20 min``, ``4 d``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}{NARROW_SPACE}s"
    if seconds < 120:
        return f"{seconds:.0f}{NARROW_SPACE}s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes}{NARROW_SPACE}min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}{NARROW_SPACE}h {minutes}{NARROW_SPACE}min" if minutes else f"{hours}{NARROW_SPACE}h"
    return f"{hours // 24}{NARROW_SPACE}d"


def instant(at: datetime | None) -> Markup:
    """An instant as an element `time`, in UTC, which a script shortens; its title has the reader's own."""
    if at is None:
        return Markup("never")
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        utc.isoformat(timespec="milliseconds"), utc.strftime("%Y-%m-%d %H:%M:%S")
    )


def percent(share: float, digits: int = 0) -> str:
    """``0.987`` → ``99 %``; what is not all is never shown as 100."""
    shown = f"{share * 100:.{digits}f}"
    if share < 1 and float(shown) == 100:
        shown = f"{100 - 10**-digits:.{digits}f}"
    return f"{shown}{NARROW_SPACE}%"


def tally(name: str, number: int) -> str:
    """Attempts that went wrong, by kind: ``("judge_errors", 1)`` → ``1 judge error``."""
    said = name.replace("_", " ")
    one = {"crashes": "crash", "stale": "stale"}.get(said, said.removesuffix("s"))
    return plural(number, one, said)


def length(seconds: float) -> str:
    """A length of time to its second unit, which `span` leaves out: 0.42 s, 4 min 5 s, 2 h 3 min, 4 d 2 h."""
    if seconds < 1:
        return f"{seconds:.2f} s" if seconds else "0 s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, of, smaller, name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit:,} {of}" + (f" {rest} {name}" if rest else "")
    return f"{whole} s"


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


FILTERS = (count, plural, usd, span, instant, percent, tally, latency, rate, clock, size)
"""What templates may use of them."""
