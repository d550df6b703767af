"""A record of the log for eyes: one line on a terminal, and a traceback beneath it.

12:03:04.123 warning  worker    lease.lost  detail="somebody else holds it"  acme m1.0 #2 acme-3f2a
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, TextIO

import orjson

from chimera.telemetry.redaction import redact

SAID = frozenset({"print", "log", "warning", "crash", "ignored", "line", "job"})
"""Events that say nothing by their name: the message is what there is to read."""
LONGEST = 200
"""Characters of one value; the record itself has all of them."""
DIM, BOLD, RED, YELLOW, GREEN, CYAN, PLAIN = "2", "1", "31", "33", "32", "36", ""
COLOURS = {"debug": DIM, "info": GREEN, "warning": YELLOW, "error": RED, "critical": "1;31"}


def coloured(stream: TextIO) -> bool:
    """Whether what goes there may have colours: a terminal, and nobody set NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Painter:
    """Renders records as text.

    Args:
        colour: with escape sequences for colours; no meaning is in them alone.
    """

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, line: Mapping[str, Any]) -> str:
        """One record, as `record.entry` makes it: a line, and more where it has an exception."""
        level, event, message = line["level"], line["event"], line.get("message", "")
        parts = [
            self._in(DIM, _clock(line["time"])),
            self._in(COLOURS.get(level, PLAIN), f"{level:<8}"),
            self._in(CYAN, f"{line['role']:<12}"),
            self._in(BOLD, message if event in SAID and message else event),
        ]
        if message and event not in SAID:
            parts.append(_short(message))
        parts += [f"{name}={self._value(value)}" for name, value in line.get("fields", {}).items()]
        if whose := " ".join(_whose(line)):
            parts.append(self._in(DIM, whose))
        beneath = [f"    {one}" for one in line.get("exception", "").splitlines()]
        return redact("\n".join((" ".join(parts), *beneath)))

    def _value(self, value: object) -> str:
        if isinstance(value, str) and value and value.isprintable() and not set(value) & set(' "='):
            return _short(value)
        return _short(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode())

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and code else text


def _clock(time: str | datetime) -> str:
    """Of the time of day what is of use: to the millisecond, UTC."""
    text = time if isinstance(time, str) else time.isoformat(timespec="microseconds")
    return text[11:23]


def _whose(line: Mapping[str, Any]) -> Iterator[str]:
    """Tenant, task (which names its mission) and attempt, worker."""
    yield from filter(None, (line.get("tenant"), line.get("task_id") or line.get("mission_id")))
    if line.get("attempt") is not None:
        yield f"#{line['attempt']}"
    yield from filter(None, (line.get("worker"),))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
