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


MODEL_PRICE = re.compile(r"(?P<model>[^,=\s]{1,200})=(?P<input>[0-9.]+)/(?P<output>[0-9.]+)")
MAX_PRICE_USD = 1_000_000
"""Of a million tokens: a dollar a token."""


def parse_prices(text: str) -> dict[str, tuple[Decimal, Decimal]]:
    """``"gpt-5=1.25/10,openai:o4=2/8"`` → USD per million input and output tokens, by model.

    Raises:
        ValueError: what is no price, named.
    """
    prices: dict[str, tuple[Decimal, Decimal]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        found = MODEL_PRICE.fullmatch(part)
        try:
            pair = (Decimal(found["input"]), Decimal(found["output"])) if found else None
        except InvalidOperation:
            pair = None
        if found is None or pair is None or max(pair) > MAX_PRICE_USD:
            raise ValueError(f"{part!r}: write MODEL=INPUT/OUTPUT, USD per million tokens: gpt-5=1.25/10")
        prices[found["model"]] = pair
    return prices
