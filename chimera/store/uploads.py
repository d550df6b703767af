"""Uploads: a mission's inputs on their way into the blob store, before the mission is acknowledged.

Inputs come in batches of lines and go into segments as they come, so that of a million of them no more is in
memory than `PIECE` bytes and the batch. Those of a small mission are not written at all: it is planned with
its submit, and its tasks hold them. A mission of more than one segment is noted under
``<tenant>/uploads/<mission id>`` until it is acknowledged or its inputs are removed: what a process that
died half-way left behind is found by that note, and cleared.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import orjson

from chimera.store.blobs import SEGMENT, Blobs, Writing

T = TypeVar("T")

LONGEST_S = 43_200.0
"""No upload takes longer. What began twice as long ago and is not acknowledged never will be."""

PIECE = 1 << 20
"""Bytes of inputs that are kept in memory before they are written."""
BATCH_BYTES = 1 << 16
"""`batches` ends one behind the line that brings it to so many bytes."""


class Upload:
    """One mission's inputs, being written. Feed it with `add`, then `end`; else `discard` it.

    Args:
        clock: gives the store's time, µs, for the note, and is asked only if there is to be one. Without it
            the upload is taken for one of long ago.
    """

    def __init__(
        self, blobs: Blobs, tenant: str, mission_id: str, *, clock: Callable[[], Awaitable[int]] | None = None
    ) -> None:
        self._clock = clock
        self._blobs, self._tenant, self._mission_id = blobs, tenant, mission_id
        self._hash = hashlib.sha256()
        self._kept: list[bytes] = []
        self._kept_bytes = self._inside = self._segment = 0
        self._writing: Writing | None = None
        self._step: asyncio.Future[Any] | None = None
        self.count = 0
        """Inputs so far."""

    @property
    def digest(self) -> str:
        """SHA-256 of all lines so far, in hex: the same inputs have the same, however they came."""
        return self._hash.hexdigest()

    @property
    def unwritten(self) -> bytes | None:
        """All lines so far; None once any of them went to the blob store."""
        return b"".join(self._kept) if self._step is None else None

    async def add(self, lines: Sequence[bytes]) -> None:
        """The inputs that follow, each as a line of JSON.

        Raises:
            BlobsUnavailable: the place cannot be written; so with `end`.
        """
        start = 0
        while start < len(lines):
            # Opened by the input that needs it, so that a whole last segment is the last.
            if self._inside == SEGMENT:
                await self._close()
            part = lines[start : start + SEGMENT - self._inside]
            body = b"".join(part)
            self._hash.update(body)
            self._kept.append(body)
            self._kept_bytes += len(body)
            self._inside += len(part)
            self.count += len(part)
            start += len(part)
            if self._kept_bytes >= PIECE:
                await self._write()

    async def end(self) -> None:
        """All are there: whole and durable once this returns."""
        if self._inside:
            await self._close(last=True)

    async def acknowledged(self) -> None:
        """The mission stands: its inputs are its own. Idempotent."""
        if self._segment > 1:
            await self._blobs.remove(note(self._tenant, self._mission_id))

    async def discard(self) -> None:
        """Leave nothing behind. Idempotent."""
        if self._step is None:
            return  # nothing was written
        await asyncio.wait([self._step])  # whoever was cancelled left a thread at work there
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing.discard()
        await self._blobs.delete_inputs(self._tenant, self._mission_id)
        await self._blobs.remove(note(self._tenant, self._mission_id))

    async def _write(self) -> None:
        if self._writing is None:
            path = self._blobs.inputs_path(self._tenant, self._mission_id, self._segment)
            self._writing = await self._through(self._blobs.draft(path))
        await self._through(self._writing.write(self._take()))

    async def _close(self, *, last: bool = False) -> None:
        """End a segment."""
        if self._segment == 0 and not last:
            at_us = await self._clock() if self._clock is not None else 0
            await self._through(self._blobs.write(note(self._tenant, self._mission_id), b"%d" % at_us))
        if self._writing is None:
            path = self._blobs.inputs_path(self._tenant, self._mission_id, self._segment)
            await self._through(self._blobs.write(path, self._take()))
        else:
            await self._write()
            await self._through(self._writing.commit())
            self._writing = None
        self._segment += 1
        self._inside = 0

    def _take(self) -> bytes:
        body, self._kept, self._kept_bytes = b"".join(self._kept), [], 0
        return body

    async def _through(self, step: Coroutine[Any, Any, T]) -> T:
        """Do a step to its end, also when its caller is cancelled meanwhile."""
        self._step = asyncio.ensure_future(step)
        return await asyncio.shield(self._step)


async def upload(blobs: Blobs, tenant: str, mission_id: str, items: Iterable[Any]) -> Upload:
    """Write inputs that are all at hand; the same again changes nothing. Raises as `Upload.add` does."""
    made = Upload(blobs, tenant, mission_id)
    for batch in batches(items):
        await made.add(batch)
    await made.end()
    return made


def batches(items: Iterable[Any]) -> Iterator[list[bytes]]:
    """Items as lines of JSON, a batch at a time."""
    batch: list[bytes] = []
    size = 0
    for item in items:
        line = orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE)
        batch.append(line)
        size += len(line)
        if size >= BATCH_BYTES or len(batch) >= SEGMENT:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def unfinished(blobs: Blobs, tenant: str, *, before_us: int | None = None) -> list[str]:
    """Missions whose inputs are being written, or were when their writer died; those begun before then."""
    found: list[str] = []
    for mission_id in await blobs.names(_folder(tenant)):
        said = await blobs.tail(note(tenant, mission_id), 20)
        if said is not None and (before_us is None or int(said) < before_us):
            found.append(mission_id)
    return found


async def clear(blobs: Blobs, tenant: str, mission_id: str, *, stands: bool) -> None:
    """End what a writer that died left behind: the note, and the inputs unless the mission stands."""
    if not stands:
        await blobs.delete_inputs(tenant, mission_id)
    await blobs.remove(note(tenant, mission_id))


def note(tenant: str, mission_id: str) -> str:
    """The path of an upload's note."""
    return f"{_folder(tenant)}/{mission_id}"


def _folder(tenant: str) -> str:
    return f"{tenant}/uploads"
