"""One line of the log: its shape, how it is made, and what never gets into it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from chimera.telemetry.redaction import redact

CONTEXT = ("tenant", "mission_id", "task_id", "attempt", "worker", "trace_id", "span_id")
"""Names that `bind` sets for all lines of a task; they stand at the record's top level."""


class LogRecord(BaseModel):
    """One line. Fields that say nothing are left out of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Chimera log record")

    time: datetime = Field(description="When it was written, UTC, to the microsecond.")
    level: Literal["debug", "info", "warning", "error", "critical"]
    event: str = Field(
        description="What happened, as a stable name. Lines of other libraries: `log`; an agent's "
        "`print`: `print`; Python's warnings: `warning`; an exception nobody caught: `crash`; one of a "
        "finalizer, which nobody can catch: `ignored`. In what `chimera logs` shows also `line`: what no "
        "process of ours wrote; `job`: what a Ray job did."
    )
    logger: str = Field("", description="The module that wrote it.")
    role: str = Field(description="What the process is: gateway, worker, governor, cli, …")
    pid: int = Field(description="The process.")
    tenant: str = ""
    mission_id: str = ""
    task_id: str = ""
    attempt: int | None = Field(None, description="1 for a task's first.")
    worker: str = ""
    trace_id: str = Field("", description="The mission's trace: 32 hexadecimal digits, as W3C has it.")
    span_id: str = Field(
        "", description="Of the attempt or judgement: what its model calls name as their parent."
    )
    message: str = Field("", description="Text for people, where the event's name does not say it all.")
    fields: dict[str, Any] = Field({}, description="The event's own values.")
    exception: str = Field("", description="A traceback.")


LEVELS = {"warn": "warning", "exception": "error", "fatal": "critical", "notset": "debug"}
"""Other names of levels."""


def entry(
    role: str, level: str, logger: str, values: dict[str, Any], *, exception: str = ""
) -> dict[str, Any]:
    """One record as a plain dict, not validated: this is the hot path, and tests validate it.

    Args:
        values: `event`, the names of `CONTEXT`, `message`; whatever else is there goes to `fields`.
            The dict is consumed.
    """
    line: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "level": LEVELS.get(level, level),
        "event": str(values.pop("event", "")),
        "logger": logger,
        "role": role,
        "pid": os.getpid(),
    }
    for name in CONTEXT:
        if (value := values.pop(name, None)) is not None:
            line[name] = value
    if (message := values.pop("message", None)) is not None:
        line["message"] = str(message)
    if values:
        line["fields"] = values
    if exception:
        line["exception"] = exception
    return line


def render(line: dict[str, Any]) -> str:
    """One record as one line of JSON, without secrets."""
    try:
        text = orjson.dumps(line, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except (orjson.JSONEncodeError, RecursionError):
        text = _at_any_price(line)
    return redact(text)


def _at_any_price(line: dict[str, Any]) -> str:
    """Whatever is logged must fail nobody: what JSON cannot say is said as text.

    That is a number of over 64 bits, half of a surrogate pair, or what holds itself.
    """
    said: dict[str, Any] = {
        name: value if isinstance(value, int) else str(value) for name, value in line.items()
    }
    if "fields" in line:
        said["fields"] = {str(name): str(value)[:10_000] for name, value in line["fields"].items()}
    return json.dumps(said, ensure_ascii=False).encode("utf-8", "replace").decode()


def _plain(value: object) -> object:
    """What JSON does not know: models as their fields, all else as its text."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return str(value)
