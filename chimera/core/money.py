"""Money: integer micro-dollars, limits and their windows. Never a float."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from enum import StrEnum

MICRO = 1_000_000
MAX_USD = Decimal(1_000_000_000)


class Window(StrEnum):
    """Over which span a tenant's limit counts, UTC. A new window starts from nothing spent."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    YEAR = "year"
    LIFETIME = "lifetime"


def microusd(usd: Decimal | int | float | str) -> int:
    """USD → µ$, rounded up, so that no amount is lost.

    Raises:
        ValueError: not a number, negative, or above a billion dollars.
    """
    try:
        amount = Decimal(str(usd))
    except InvalidOperation as exc:
        raise ValueError(f"{usd!r} is no amount of money: write USD as 0.25") from exc
    if not amount.is_finite() or amount < 0 or amount > MAX_USD:
        raise ValueError(f"{usd} USD is out of range: 0 to {MAX_USD:,}")
    return int((amount * MICRO).to_integral_value(rounding=ROUND_CEILING))


def usd(amount_microusd: int) -> str:
    """µ$ → "$0.001234": six places, as the ledger has it."""
    sign = "-" if amount_microusd < 0 else ""
    whole, part = divmod(abs(amount_microusd), MICRO)
    return f"{sign}${whole:,}.{part:06d}"


LIMIT = re.compile(r"(?:(?P<kind>agent|model)/(?P<name>[^,=\s]{1,200})/)?(?P<window>[a-z]+)")
"""What is limited: `day` for the tenant as a whole, `agent/NAME/day`, `model/NAME/hour`."""


def check_limit(limit: str) -> str:
    """The name of a limit, if it is one.

    Raises:
        ValueError: it is none; says how one is written.
    """
    found = LIMIT.fullmatch(limit)
    if found is None or found["window"] not in set(Window):
        raise ValueError(
            f"{limit!r} limits nothing: write WINDOW, agent/NAME/WINDOW or model/NAME/WINDOW, with one of "
            f"{', '.join(Window)}"
        )
    return limit


def parse_limits(text: str) -> dict[str, int]:
    """``"day=5,agent/summarise/day=1"`` → µ$ by what is limited.

    Raises:
        ValueError: an unknown limit or a bad amount, named.
    """
    limits: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, separator, amount = part.partition("=")
        if not separator:
            raise ValueError(f"{part!r}: write LIMIT=USD, for example day=5 or agent/summarise/day=1")
        limits[check_limit(name.strip())] = microusd(amount.strip())
    return limits
