"""An export of the flight recorder: its file, the manifest beside it, and going on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from chimera.cli import output
from chimera.core.chainviews import ChainView, Mark
from chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from chimera.core.event import Event

BATCH = 2_000
"""Events between two writes of the manifest: so many are written again after a crash, at most."""
TELL_S = 2.0


class Manifest(BaseModel):
    """What an export holds.

    Attributes:
        complete: it came to its end.
        events: lines.
        first, last: ids of its first and last event.
        after: where to go on: what `Last-Event-ID` takes.
        bytes, sha256: of the file, as far as it goes.
        anchor: the recorder's chain when the export ended; None where that was not asked for.
    """

    complete: bool = False
    events: int = 0
    first: str = ""
    last: str = ""
    after: str = ""
    bytes: int = 0
    sha256: str = hashlib.sha256().hexdigest()
    anchor: Mark | None = None


class Ticker:
    """Says now and then, on a terminal's stderr, how far something is."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, time.monotonic()

    def tell(self, count: int) -> None:
        """So far."""
        if sys.stderr.isatty() and time.monotonic() - self._at >= TELL_S:
            self._at = time.monotonic()
            output.note(self._text.format(count))


class Export:
    """One export under way. `open` it."""

    def __init__(self, path: Path, file: IO[bytes], manifest: Manifest) -> None:
        self._path, self._file, self.manifest = path, file, manifest
        self._pending: list[bytes] = []
        self._hash = hashlib.sha256()
        self._ticker = Ticker("{:,} events written")

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, resume: bool = False) -> Iterator[Export]:
        """Begin it, or go on with it.

        Raises:
            ConfigurationError: the file is there, or there is none to go on with, or not of this export.
        """
        if str(path) == "-":
            yield cls(path, sys.stdout.buffer, Manifest())
            return
        manifest = _kept(path) if resume else Manifest()
        try:
            file = path.open("r+b" if resume else "xb")
        except FileExistsError as exc:
            raise ConfigurationError(f"{path} is there: name another file, or go on with --resume") from exc
        except OSError as exc:
            raise ConfigurationError(f"{path} cannot be written ({exc.strerror}): check the path") from exc
        with file:
            export = cls(path, file, manifest)
            if resume:
                export._go_on()
            else:
                export._note()
            yield export

    def write(self, position: str, event: Event) -> None:
        """One more event."""
        line = (
            json.dumps(event.model_dump(mode="json"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        )
        self._pending.append(line)
        manifest = self.manifest
        self.manifest = manifest.model_copy(
            update={
                "events": manifest.events + 1,
                "first": manifest.first or event.id,
                "last": event.id,
                "after": position,
            }
        )
        self._ticker.tell(self.manifest.events)
        if len(self._pending) >= BATCH or str(self._path) == "-":
            self._flush()

    def end(self, chain: ChainView | None) -> None:
        """All is written.

        Raises:
            ConfigurationError: the recorder is not whole; the file is complete all the same.
        """
        update: dict[str, Any] = {"complete": True, "anchor": chain.anchor if chain else None}
        self.manifest = self.manifest.model_copy(update=update)
        self._flush()
        if chain is not None and not chain.sound:
            raise ConfigurationError(
                f"the recorder is not whole: {chain.wrong[0]}: see `chimera recorder verify`"
            )

    def _flush(self) -> None:
        body, self._pending = b"".join(self._pending), []
        if body and self._path.suffix == ".zst":
            body = _compress()(body)  # a frame of its own: whatever is cut short, what stands can be read
        self._file.write(body)
        self._file.flush()
        if str(self._path) == "-":
            return
        os.fsync(self._file.fileno())
        self._hash.update(body)
        size = self.manifest.bytes + len(body)
        self.manifest = self.manifest.model_copy(update={"bytes": size, "sha256": self._hash.hexdigest()})
        self._note()

    def _note(self) -> None:
        """The manifest appears whole, behind what it tells of."""
        path = _beside(self._path)
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(self.manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(path)

    def _go_on(self) -> None:
        """Behind what the manifest tells of: what was written and not told is written again."""
        left = self.manifest.bytes
        while left and (piece := self._file.read(min(left, 1 << 20))):
            self._hash.update(piece)
            left -= len(piece)
        if left or self._hash.hexdigest() != self.manifest.sha256:
            raise ConfigurationError(
                f"{self._path} is not what its manifest tells of: begin a new file, without --resume"
            )
        self._file.truncate(self.manifest.bytes)
        self._file.seek(self.manifest.bytes)
        self.manifest = self.manifest.model_copy(update={"complete": False, "anchor": None})


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.manifest.json")


def _kept(path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(_beside(path).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as exc:
        raise ConfigurationError(
            f"{_beside(path)} cannot be read: without it nobody knows where {path} stopped; begin a new file"
        ) from exc


def _compress() -> Callable[[bytes], bytes]:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.compress
