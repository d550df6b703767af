"""The ledger's calendar, UTC: which windows an instant is in, when each begins and starts anew.

The same names as `store/lua/include/ledger.lua` gives them; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from chimera.core.money import Window

FORMS: Mapping[Window, str] = {
    Window.MINUTE: "%Y-%m-%dT%H:%M",
    Window.HOUR: "%Y-%m-%dT%H",
    Window.DAY: "%Y-%m-%d",
    Window.MONTH: "%Y-%m",
    Window.YEAR: "%Y",
}
"""How instants of the same window look alike. The lifetime is one window."""
KEPT: Mapping[Window, timedelta] = {
    Window.MINUTE: timedelta(hours=3),
    Window.HOUR: timedelta(days=3),
    Window.DAY: timedelta(days=400),
}
"""What a ledger remembers of windows that are over; months, years and the lifetime stay."""


def window_id(window: Window, at: datetime) -> str:
    """The ledger's name of the window that an instant is in: ``day:2026-11-22``, ``lifetime``."""
    form = FORMS.get(window)
    return window.value if form is None else f"{window}:{at.strftime(form)}"


def window_ids(at: datetime) -> tuple[str, ...]:
    """The windows that an instant is in, in the order of `Window`."""
    return _ids(at.replace(second=0, microsecond=0))


@lru_cache(maxsize=1_024)
def _ids(minute: datetime) -> tuple[str, ...]:
    return tuple(window_id(window, minute) for window in Window)


def window_of(identity: str) -> Window:
    """The kind of window that a name is of. Raises ValueError."""
    return Window(identity.partition(":")[0])


@lru_cache(maxsize=8_192)
def begins(identity: str) -> datetime:
    """When the window of a name begins; of the lifetime the beginning of time. Raises ValueError."""
    kind, _, when = identity.partition(":")
    form = FORMS.get(Window(kind))
    if form is None:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.strptime(when, form).replace(tzinfo=UTC)


def ends(identity: str) -> datetime | None:
    """When the window of a name starts anew; None for the lifetime. Raises ValueError."""
    window, start = window_of(identity), begins(identity)
    match window:
        case Window.MINUTE:
            return start + timedelta(minutes=1)
        case Window.HOUR:
            return start + timedelta(hours=1)
        case Window.DAY:
            return start + timedelta(days=1)
        case Window.MONTH:
            return (start + timedelta(days=31)).replace(day=1)
        case Window.YEAR:
            return start.replace(year=start.year + 1)
    return None


def is_kept(identity: str, now: datetime) -> bool:
    """Whether a ledger has the window of a name for certain: it ended so lately, or is kept for ever."""
    kept, end = KEPT.get(window_of(identity)), ends(identity)
    return kept is None or end is None or now - end < kept
