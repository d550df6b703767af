"""Money: integer micro-dollars, limits and their windows. Never a float."""

from __future__ import annotations

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


def parse_limits(text: str) -> dict[Window, int]:
    """``"day=5,month=50"`` → µ$ by window.

    Raises:
        ValueError: an unknown window or a bad amount, named.
    """
    limits: dict[Window, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, separator, amount = part.partition("=")
        if not separator or name.strip() not in set(Window):
            raise ValueError(f"{part!r}: write WINDOW=USD with one of {', '.join(Window)}")
        limits[Window(name.strip())] = microusd(amount.strip())
    return limits
