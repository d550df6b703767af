"""Mission ids: sortable by time, typed by people, never with a dot (task ids put one behind them)."""

from __future__ import annotations

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32: no letter that is taken for another."""
TIME_CHARS = 10
RANDOM_CHARS = 10


def new_mission_id() -> str:
    """``m``, ten characters of milliseconds since the epoch, ten (50 bits) of chance."""
    return (
        "m"
        + _base32(time.time_ns() // 1_000_000, TIME_CHARS)
        + _base32(secrets.randbits(5 * RANDOM_CHARS), RANDOM_CHARS)
    )


def _base32(number: int, chars: int) -> str:
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(chars)))
