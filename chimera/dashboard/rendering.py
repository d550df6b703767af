"""Templates, and how figures and instants are written in them. What is not markup is escaped."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from chimera.dashboard import words
from chimera.dashboard.assets import assets
from chimera.dashboard.drawing.bars import limit_bar, share_bar
from chimera.dashboard.drawing.marks import WORDS, picture
from chimera.dashboard.payload import seen
from chimera.dashboard.spend import soonest, used

NARROW_SPACE = "\u202f"


def render(template: str, **context: Any) -> Markup:
    """A template of `chimera/dashboard/templates`, filled in."""
    return Markup(environment().get_template(template).render(**context))  # nosec B704  # (it escapes)


@cache
def environment() -> Environment:
    """The templates. What they name and do not get is an error."""
    found = Environment(
        loader=PackageLoader("chimera.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.globals.update(asset=assets().address, mark_picture=picture, status_words=WORDS)
    found.filters.update(count=count, usd=usd, span=span, instant=instant, percent=percent, plural=plural)
    found.filters.update(rate=words.rate, latency=words.latency, clock=words.clock, size=words.size)
    found.globals.update(limit_bar=limit_bar, share_bar=share_bar, used=used, soonest=soonest)
    found.filters["seen"] = seen
    return found


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
