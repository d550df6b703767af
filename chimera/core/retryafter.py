"""What an HTTP answer says of how long to wait."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime


def retry_after_s(asked: str, date: str) -> float | None:
    """The seconds that an answer asks to wait, at least 0; None if it asks for nothing that can be read.

    Args:
        asked: the header `Retry-After`: seconds, or an HTTP date.
        date: the header `Date`: an HTTP date is read by the answering side's own clock.
    """
    asked = asked.strip()
    if asked.isascii() and asked.isdecimal():
        return float(asked)
    try:
        at, now = (parsedate_to_datetime(value) for value in (asked, date))
    except (ValueError, OverflowError):
        return None
    return max(
        0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now.replace(tzinfo=now.tzinfo or UTC)).total_seconds()
    )
