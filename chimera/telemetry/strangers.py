"""Lines of a log that are no record: Ray's own, and what stands beside it. Each kind has a name.

Whoever follows the log of a whole fleet meets them. A line that is neither a record nor one of these is a
defect; so the list is part of the documentation (docs/logs.md), and tests read real logs by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson
from pydantic import ValidationError

from chimera.telemetry.record import LogRecord

_STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


@dataclass(frozen=True, slots=True)
class Stranger:
    """A kind of line.

    Attributes:
        pattern: the whole of its first line.
        goes_on: it may have more lines, of any look, until the next that is known.
    """

    name: str
    meaning: str
    pattern: re.Pattern[str]
    goes_on: bool = False


STRANGERS: tuple[Stranger, ...] = (
    Stranger(
        "ray-mark",
        "Ray's marks: of which job, actor or task the lines after it are.",
        re.compile(r":(?:job_id|actor_name|task_name):.*"),
    ),
    Stranger(
        "ray-cli",
        "What `ray start` and Ray's Python daemons say.",
        re.compile(
            rf"{_STAMP}\t\x20*(?:DEBUG|INFO|SUCC|WARN|WARNING|ERR|ERROR|PANIC) (?:\(\S+\) )?\S+:\d+ -- .*"
        ),
        goes_on=True,
    ),
    Stranger(
        "ray-json",
        "Ray's C++ parts under `RAY_BACKEND_LOG_JSON=1`, and Serve's own log files.",
        re.compile(r'\{"asctime":.*"levelname":.*\}'),
    ),
    Stranger(
        "ray-cpp",
        "Ray's C++ parts otherwise.",
        re.compile(rf"\[{_STAMP} [DIWEFC] \d+ \d+\] .*"),
        goes_on=True,
    ),
    Stranger(
        "ray-signal",
        "Ray's note of a signal that ends a process, and where it was.",
        re.compile(r"\*{3} SIG\w+ received at time=.*"),
        goes_on=True,
    ),
    Stranger(
        "serve",
        "Ray Serve's controller and client, which know JSON for their files alone.",
        re.compile(rf"(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) {_STAMP} \S+ .*?-- .*"),
        goes_on=True,
    ),
    Stranger(
        "ray-many",
        "Ray's word, when a job starts, that the machine has other clusters too; it takes its own.",
        re.compile(r"Found multiple active Ray instances: \{.*\}\. Connecting to latest cluster at \S+\. .*"),
    ),
    Stranger(
        "grpc",
        "The gRPC library, in processes of Ray that fork.",
        re.compile(r"[DIWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+:\d+\] .*"),
    ),
    Stranger(
        "python",
        "Python's last words: a crash of the interpreter itself, or a module that cannot be imported.",
        re.compile(r"Fatal Python error: .*|Error processing line \d+ of .*"),
        goes_on=True,
    ),
)
"""Every kind there is."""

GOES_ON = "goes-on"
"""The name of a further line of one that goes on."""


def kind_of(line: str) -> Stranger | None:
    """Which of them begins with this line."""
    return next((one for one in STRANGERS if one.pattern.fullmatch(line)), None)


def record_of(line: str) -> LogRecord | None:
    """The record that a line is; None: it is none."""
    if not line.startswith("{"):
        return None
    try:
        return LogRecord.model_validate_json(line)
    except ValidationError:
        return None


def named(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """One file's lines, each with its kind: "record", the name of a stranger, or "" for what is none."""
    before: Stranger | None = None
    for line in filter(str.strip, lines):
        found = kind_of(line)
        if record_of(line) is not None:
            before = None
            yield "record", line
        elif found is not None:
            before = found
            yield found.name, line
        else:
            yield GOES_ON if before is not None and before.goes_on else "", line


LEVELS = {
    **{"d": "debug", "i": "info", "succ": "info", "w": "warning", "warn": "warning", "e": "error"},
    **{"err": "error", "c": "critical", "f": "critical", "fatal": "critical", "panic": "critical"},
}
"""Levels under other names."""
KNOWN = frozenset({"debug", "info", "warning", "error", "critical"})


def told(line: str) -> tuple[str, str]:
    """Level and text of a line that is no record, as far as it says so."""
    if line.startswith('{"asctime"'):
        try:
            said = orjson.loads(line)
            return _level(str(said["levelname"])), str(said["message"]).strip()
        except (ValueError, KeyError):
            return "info", line
    found = re.search(r"\b(?:DEBUG|INFO|SUCC|WARN|WARNING|ERR|ERROR|PANIC|CRITICAL|FATAL)\b", line[:60])
    return _level(found.group() if found else "info"), line


def _level(name: str) -> str:
    level = LEVELS.get(name.lower(), name.lower())
    return level if level in KNOWN else "info"


def table() -> str:
    """The list as docs/logs.md has it."""
    rows = [f"| `{one.name}` | {one.meaning} |" for one in STRANGERS]
    return "\n".join(("| Name | What it is |", "|---|---|", *rows)) + "\n"
