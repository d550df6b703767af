"""Instants as people write them on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chimera.errors import ConfigurationError


def instant(text: str, now: datetime, option: str) -> datetime | None:
    """``2026-11-28``, ``2026-11-28T10:00``, ``7d``, ``12h`` → an aware instant; None for "".

    Raises:
        ConfigurationError: it is none of these.
    """
    if not text:
        return None
    unit = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}.get(text[-1])
    try:
        if unit is not None and text[:-1].isdecimal() and len(text) < 8:
            return now - int(text[:-1]) * unit
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise ConfigurationError(
            f"{option}: {text!r} is no instant: write 2026-11-28, 2026-11-28T10:00 (UTC), 7d or 12h"
        ) from exc
