"""Redaction: secrets leave no text that others read.

What is known to this process is found by its value, wherever it stands: its settings' secrets, and what it
was given of a tenant's. What only looks like a secret is found by its shape. It works on rendered text, so it
covers messages, fields and tracebacks alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

SHORTEST = 8
"""Characters of a secret that is found by its value: a shorter one would be found in half of all words."""
GONE = "***"

HINTS = re.compile(r"chi_|sk-|AIza|://|earer |asic |assword|api[_-]?key|secret|uthorization", re.IGNORECASE)
"""What every shape has a part of: most text has none, and is left at once."""
SHAPES = (
    (re.compile(r"chi_[A-Za-z0-9_-]{8,}"), "chi_***"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"), "sk-***"),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"), "AIza***"),
    (re.compile(r"(://[^\s:/@\"\\]*:)[^\s@/\"\\]+@"), r"\1***@"),
    (re.compile(r"(://)[^\s:/@\"\\]+@"), r"\1***@"),
    (re.compile(r"\b((?:bearer|basic)\s+)(?!chi_\*|sk-\*|\*)[^\s\"'\\,}]{6,}", re.IGNORECASE), r"\1***"),
    (
        re.compile(
            r"(\\?[\"'][a-z_-]*(?:password|api[_-]?key|secret|authorization)\\?[\"']:\s*(\\?[\"']))"
            r"(?:(?!\2)(?:[^\\]|\\.))+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)


class Known:
    """The secrets that this process knows by their values."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        """Find these from now on, also where they are written into JSON or a URL."""
        for value in values:
            if len(value) >= SHORTEST:
                self._values |= {value, json.dumps(value)[1:-1], quote(value, safe="")}
        # The longest first: one may be part of another.
        ordered = sorted(self._values, key=lambda value: (-len(value), value))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def redact(self, text: str) -> str:
        """The text without them."""
        return text if self._pattern is None else self._pattern.sub(GONE, text)


_known = Known()


def conceal(*values: str) -> None:
    """Redact these values from all that this process writes; those under `SHORTEST` characters are left."""
    _known.add(values)


def conceal_settings(settings: Any) -> None:
    """Redact every secret of the settings; of a URL its password, as it may be cited alone."""
    for value in vars(settings).values():
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            conceal(*(_passwords(secret) if "://" in secret else (secret, *_members(secret))))


def redact(text: str) -> str:
    """The text without secrets: those that are known, and what looks like API keys, passwords in URLs,
    `Authorization` headers and fields named like secrets."""
    text = _known.redact(text)
    if HINTS.search(text):
        for pattern, replacement in SHAPES:
            text = pattern.sub(replacement, text)
    return text


def _members(text: str) -> tuple[str, ...]:
    """Of headers in JSON each value, and a bearer's token alone."""
    if not text.startswith("{"):
        return ()
    try:
        values = [value for value in json.loads(text).values() if isinstance(value, str)]
    except ValueError:
        return ()
    return (*values, *(value.rpartition(" ")[2] for value in values))


def _passwords(text: str) -> tuple[str, ...]:
    try:
        password = urlsplit(text).password
    except ValueError:
        return ()
    return (password, unquote(password)) if password else ()
