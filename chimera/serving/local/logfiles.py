"""The log of a whole fleet: the files of all its processes, followed as one, each line a record.

Ray gives each worker a pair of files, and the supervisor one to each of its children. What is no record in
them, Ray's own lines above all, is made one here: so whoever reads this needs to know one shape.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from chimera.serving.local.stages import StageEvent, Status
from chimera.serving.local.state import StateDir
from chimera.telemetry.record import LogRecord
from chimera.telemetry.redaction import redact
from chimera.telemetry.strangers import Stranger, kind_of, record_of, told

OF_WORKERS = ("worker-*.out", "worker-*.err", "job-driver-*.log")
"""In the directory of logs of a session of Ray's: actors and replicas, and the drivers of jobs."""
STAGES = "supervisor.ndjson"
MOST = 1 << 22
"""Bytes of one file that are read at once."""
LONGEST = 1 << 20
"""Characters of a line without an end before it counts as one."""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory, and which files in it are logs."""

    directory: Path
    patterns: tuple[str, ...]

    def files(self) -> Iterator[Path]:
        """Those that are there now."""
        for pattern in self.patterns:
            yield from sorted(self.directory.glob(pattern))


def of_fleet(state: StateDir) -> tuple[Place, ...]:
    """Of a local fleet: what its supervisor starts, and the workers of each head it has had."""
    sessions = tuple(f"session_[0-9]*/logs/{pattern}" for pattern in OF_WORKERS)
    return Place(state.logs, (STAGES, "*.log")), Place(state.ray_temp, sessions)


def of_ray(directory: Path) -> tuple[Place, ...]:
    """Of one node of any cluster: Ray's directory, as `--temp-dir` names it, or one of its logs."""
    sessions = (f"session_[0-9]*/logs/{pattern}" for pattern in OF_WORKERS)
    return (Place(directory, (*OF_WORKERS, *sessions)),)


class LogFiles:
    """All lines of these files, old and new.

    Args:
        places: looked through anew each time: files come and go.
    """

    def __init__(self, places: Iterable[Place]) -> None:
        self._tails: dict[Path, Tail] = {}
        self._places = tuple(places)

    def skip(self) -> None:
        """Begin with what is written from now on."""
        self._look()
        for tail in self._tails.values():
            tail.skip()

    def new(self) -> list[LogRecord]:
        """What was written since the last call, by time as far as files tell."""
        gone = self._look()
        found = [record for tail in (*gone, *self._tails.values()) for record in tail.new()]
        for tail in gone:
            tail.close()
        return sorted(found, key=lambda record: record.time)

    def close(self) -> None:
        """Close all. Twice is fine."""
        for tail in self._tails.values():
            tail.close()
        self._tails = {}

    def _look(self) -> list[Tail]:
        """Open what has come; give back those whose files have gone, or are others now."""
        there = dict.fromkeys(path for place in self._places for path in place.files())
        gone = [tail for path, tail in self._tails.items() if path not in there or tail.replaced]
        kept = {tail.path: tail for tail in self._tails.values() if tail not in gone}
        for path in there.keys() - kept.keys():
            with suppress(FileNotFoundError):
                kept[path] = Tail(path)
        self._tails = kept
        return gone


class Tail:
    """One file's lines, whole, as it grows: also what was written just before it was removed.

    Raises:
        FileNotFoundError: it has just gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._rest = b""
        self._kind: Stranger | None = None
        self._time = datetime.fromtimestamp(0, UTC)
        """Of its last line, or of the file's last change: a line that does not tell its own is no older."""

    @property
    def replaced(self) -> bool:
        """Whether another file has its name now."""
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return True

    def skip(self) -> None:
        """Leave out what is there."""
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Read no more."""
        self._file.close()

    def new(self) -> Iterator[LogRecord]:
        """Records of the lines since the last call."""
        for line in self._lines():
            record = self._record(line)
            if record is not None:
                self._time = record.time
                yield record

    def _lines(self) -> Iterator[str]:
        found = os.fstat(self._file.fileno())
        self._time = max(self._time, datetime.fromtimestamp(found.st_mtime, UTC))
        if found.st_size < self._file.tell():  # it was emptied
            self._file.seek(0)
            self._rest = b""
        while read := self._file.read(MOST):
            *lines, self._rest = (self._rest + read).split(b"\n")
            if len(self._rest) > LONGEST:
                lines, self._rest = [*lines, self._rest], b""
            for line in lines:
                if text := line.decode("utf-8", "replace").strip("\r"):
                    yield text

    def _record(self, line: str) -> LogRecord | None:
        """A line as a record; None for Ray's marks, which say nothing."""
        if (record := record_of(line)) is not None:
            self._kind = None
            return record
        if self.path.name == STAGES:
            return _stage(line)
        kind = kind_of(line) or (self._kind if self._kind is not None and self._kind.goes_on else None)
        self._kind = kind
        if kind is not None and kind.name == "ray-mark":
            return None
        level, text = told(line)
        job = self.path.name.startswith("job-driver-")
        return LogRecord.model_validate(
            {
                "time": self._time,
                "level": level,
                "event": "job" if job else "line",
                "logger": self.path.name,
                "role": "job" if job else "other" if kind is None else "ray",
                "pid": 0,
                "message": redact(text),
                "fields": {"kind": kind.name} if kind is not None else {},
            }
        )


def _stage(line: str) -> LogRecord | None:
    try:
        event = StageEvent.model_validate_json(line)
    except ValidationError:
        return None
    shown = {"stage": event.stage.value, "seconds": event.seconds, "detail": event.detail}
    return LogRecord.model_validate(
        {
            "time": event.at,
            "level": "error" if event.status is Status.FAILED else "info",
            "event": f"stage.{event.status}",
            "role": "supervisor",
            "pid": 0,
            "fields": json.loads(redact(json.dumps({key: value for key, value in shown.items() if value}))),
        }
    )
