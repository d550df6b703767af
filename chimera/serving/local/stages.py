"""The stages of a local fleet's life, and the log of how they went."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from chimera.errors import BackendError, ChimeraError, ConfigurationError


class Stage(StrEnum):
    """What is started; `FLEET` is the whole, and its event is the last of a start."""

    REDIS = "redis"
    MODEL = "model"
    RAY = "ray"
    NODE = "node"
    SERVE = "serve"
    FLEET = "fleet"


class Status(StrEnum):
    """How a stage stands."""

    STARTED = "started"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


class StageEvent(BaseModel):
    """One line of `logs/supervisor.ndjson`.

    Attributes:
        seconds: since the stage was started.
        detail: where it listens, or why it failed.
        configuration: whether a failure is the environment's, to be mended there.
        at: when, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage
    status: Status
    seconds: float = 0.0
    detail: str = ""
    configuration: bool = False
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    def error(self) -> ChimeraError:
        """A failure, as the exception to raise."""
        return (ConfigurationError if self.configuration else BackendError)(self.detail)


class StageLog:
    """Appends events to a file, one JSON line each, for whoever follows it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("", encoding="utf-8")

    def write(self, event: StageEvent) -> None:
        """Append one event; a reader sees whole lines only."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")

    @asynccontextmanager
    async def stage(self, stage: Stage) -> AsyncIterator[StageNote]:
        """Write `started` now and `ready` at the end, or `failed` with the error, which goes on."""
        began, note = time.monotonic(), StageNote()
        self.write(StageEvent(stage=stage, status=Status.STARTED))
        try:
            yield note
        except ChimeraError as exc:
            self.write(
                StageEvent(
                    stage=stage,
                    status=Status.FAILED,
                    seconds=round(time.monotonic() - began, 2),
                    detail=str(exc),
                    configuration=isinstance(exc, ConfigurationError),
                )
            )
            raise
        self.write(
            StageEvent(
                stage=stage,
                status=Status.READY,
                seconds=round(time.monotonic() - began, 2),
                detail=note.detail,
            )
        )


class StageNote:
    """What a stage says of itself when it is ready."""

    detail = ""


class Follower:
    """Reads a stage log from its beginning, a line at a time, as it grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> list[StageEvent]:
        """The events written since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [StageEvent.model_validate_json(line) for line in whole.splitlines()]
