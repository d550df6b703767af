"""How often something recurs, and how many hours that is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

YEAR_H = 8_766.0
"""Hours of a year, leap days included: 365.25 days."""


class Every(StrEnum):
    """How often a mission recurs."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


HOURS: Mapping[str, float] = {
    "minute": 1 / 60,
    "hour": 1,
    "day": 24,
    "week": 168,
    "month": YEAR_H / 12,
    "year": YEAR_H,
}
"""Of each such span, and of a limit's window."""
