"""Bulk, in a directory or any fsspec location: mission inputs, the recorder's archive, finished missions.

A file appears whole or not at all. Inputs are written, and on a local disk synced, before the
mission is acknowledged. Redis never holds them all: the planner reads the window it needs.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, ParamSpec, Protocol, TypeVar

import fsspec
import orjson
from fsspec.implementations.local import LocalFileSystem

from chimera.errors import BlobsUnavailable, CorruptRecord

P = ParamSpec("P")
T = TypeVar("T")

SEGMENT = 1_000
"""Inputs in one segment."""
UNFINISHED = "."
"""What the names of files begin with while they are being written."""


class Draft(Protocol):
    """A file that is being written."""

    def write(self, body: bytes) -> None:
        """Append."""

    def commit(self) -> None:
        """Let it be seen, whole and durable."""

    def discard(self) -> None:
        """Leave nothing of it."""


class Blobs:
    """Files by their path under the location; inputs of every mission, by tenant."""

    def __init__(self, location: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(location, auto_mkdir=True)

    async def write(self, path: str, body: bytes) -> None:
        """Store a file, durably. Whoever reads meanwhile finds the one before, or none.

        Raises:
            BlobsUnavailable: the place cannot be written; what was there is there still.
        """
        await asyncio.to_thread(self._write_file, f"{self._root}/{path}", body)

    async def draft(self, path: str) -> Writing:
        """Begin a file that is written piece by piece, and ended by its `commit` or `discard`.

        Raises:
            BlobsUnavailable: the place cannot be written; what was there is there still.
        """
        place = f"{self._root}/{path}"
        return Writing(place, await asyncio.to_thread(_named(place, self._draft), place))

    @asynccontextmanager
    async def writing(self, path: str) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
        """Store a file piece by piece; it is there, whole and durable, once the block has ended well.

        Raises:
            BlobsUnavailable: the place cannot be written; what was there is there still.
        """
        writing = await self.draft(path)
        try:
            yield writing.write
            await writing.commit()
        except BaseException:
            await writing.discard()
            raise

    async def tail(self, path: str, most: int) -> bytes | None:
        """The last bytes of a file; None when it is not there.

        Raises:
            BlobsUnavailable: the place cannot be read.
        """
        try:
            return await asyncio.to_thread(self._read_file, f"{self._root}/{path}", -most, None)
        except CorruptRecord:
            return None

    async def part(self, path: str, start: int, size: int) -> bytes:
        """Some bytes of a file. Raises as `read` does."""
        return await asyncio.to_thread(self._read_file, f"{self._root}/{path}", start, start + size)

    async def read(self, path: str, *, most: int | None = None) -> bytes:
        """A file, or no more than its first bytes.

        Raises:
            CorruptRecord: it is not there.
            BlobsUnavailable: the place cannot be read.
        """
        return await asyncio.to_thread(self._read_file, f"{self._root}/{path}", 0, most)

    async def names(self, folder: str) -> list[str]:
        """Names of the finished files of a folder, sorted; none when it is not there.

        Raises:
            BlobsUnavailable: the place cannot be read.
        """
        return await asyncio.to_thread(self._names, f"{self._root}/{folder}")

    async def clear_unfinished(self, folder: str) -> None:
        """Remove what writers that died left behind. Idempotent."""
        await asyncio.to_thread(self._clear_unfinished, f"{self._root}/{folder}")

    async def remove(self, path: str) -> None:
        """Remove a file. Idempotent.

        Raises:
            BlobsUnavailable: the place cannot be changed.
        """
        await asyncio.to_thread(self._remove, f"{self._root}/{path}")

    async def remove_all(self, folder: str) -> None:
        """Remove a folder, or a file, and all that is in it, unfinished files too. Idempotent.

        Raises:
            BlobsUnavailable: the place cannot be changed; some of it may be gone.
        """
        await asyncio.to_thread(self._remove_all, f"{self._root}/{folder}")

    def inputs_path(self, tenant: str, mission_id: str, segment: int) -> str:
        """Where a segment of a mission's inputs lies."""
        return f"{tenant}/{mission_id}/inputs-{segment:06d}.ndjson"

    async def delete_inputs(self, tenant: str, mission_id: str) -> None:
        """Forget a mission's inputs: it was never acknowledged under this id. Idempotent."""
        folder = f"{self._root}/{tenant}/{mission_id}"
        if await asyncio.to_thread(self._fs.exists, folder):
            await asyncio.to_thread(self._fs.rm, folder, recursive=True)

    async def read_inputs(self, tenant: str, mission_id: str, start: int, count: int) -> list[Any]:
        """Inputs ``start … start + count``.

        Raises:
            CorruptRecord: a segment is missing or damaged.
        """
        return await asyncio.to_thread(lambda: list(self._read(tenant, mission_id, start, start + count)))

    async def iter_inputs(self, tenant: str, mission_id: str, total: int) -> AsyncIterator[Any]:
        """All inputs, a segment at a time."""
        for start in range(0, total, SEGMENT):
            for item in await self.read_inputs(tenant, mission_id, start, SEGMENT):
                yield item

    def _remove(self, path: str) -> None:
        with _unavailable(path), suppress(FileNotFoundError):
            self._fs.rm_file(path)

    def _remove_all(self, path: str) -> None:
        with _unavailable(path), suppress(FileNotFoundError):
            self._fs.rm(path, recursive=True)

    def _read(self, tenant: str, mission_id: str, start: int, end: int) -> Iterator[Any]:
        for segment in range(start // SEGMENT, -(-end // SEGMENT)):
            path = f"{self._root}/{self.inputs_path(tenant, mission_id, segment)}"
            try:
                lines = self._fs.cat_file(path).splitlines()
            except FileNotFoundError:
                if segment * SEGMENT > start:
                    return  # beyond the last segment
                raise CorruptRecord(
                    f"inputs of mission {mission_id} are missing at {path}: every hub node needs the "
                    "same CHIMERA_BLOB_URL"
                ) from None
            first = segment * SEGMENT
            for line in lines[max(0, start - first) : max(0, end - first)]:
                yield orjson.loads(line)

    def _write_file(self, path: str, body: bytes) -> None:
        with _unavailable(path):
            if not isinstance(self._fs, LocalFileSystem):
                # An object store shows an object once all of it is there, and keeps it from then on.
                self._fs.pipe_file(path, body)
                return
            draft = LocalDraft(path)
            try:
                draft.write(body)
                draft.commit()
            except BaseException:
                draft.discard()
                raise

    def _draft(self, path: str) -> Draft:
        return LocalDraft(path) if isinstance(self._fs, LocalFileSystem) else ObjectDraft(self._fs, path)

    def _read_file(self, path: str, start: int, end: int | None) -> bytes:
        try:
            return bytes(self._fs.cat_file(path, start=start or None, end=end))
        except FileNotFoundError:
            raise CorruptRecord(
                f"{path} is missing: every hub node needs the same CHIMERA_BLOB_URL"
            ) from None
        except OSError as exc:
            raise BlobsUnavailable(f"{path} cannot be read ({exc}): check CHIMERA_BLOB_URL") from exc

    def _list(self, folder: str) -> list[str]:
        self._fs.invalidate_cache(folder)  # another process may have written there
        try:
            return sorted(str(path).rpartition("/")[2] for path in self._fs.ls(folder, detail=False))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise BlobsUnavailable(f"{folder} cannot be read ({exc}): check CHIMERA_BLOB_URL") from exc

    def _names(self, folder: str) -> list[str]:
        return [name for name in self._list(folder) if not name.startswith(UNFINISHED)]

    def _clear_unfinished(self, folder: str) -> None:
        for name in self._list(folder):
            if name.startswith(UNFINISHED):
                with suppress(FileNotFoundError):
                    self._fs.rm_file(f"{folder}/{name}")


class Writing:
    """A file that is being written, in threads; whatever fails names it.

    Raises:
        BlobsUnavailable: by `write` and `commit`, when the place cannot be written.
    """

    def __init__(self, place: str, draft: Draft) -> None:
        self._place, self._draft = place, draft

    async def write(self, body: bytes) -> None:
        """Append."""
        await asyncio.to_thread(_named(self._place, self._draft.write), body)

    async def commit(self) -> None:
        """Let it be seen, whole and durable."""
        await asyncio.to_thread(_named(self._place, self._draft.commit))

    async def discard(self) -> None:
        """Leave nothing of it."""
        await asyncio.to_thread(self._draft.discard)


class LocalDraft:
    """Under a name of its own, synced, and then renamed: nobody ever sees a part of it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder, _, name = path.rpartition("/")
        os.makedirs(self._folder, exist_ok=True)
        self._temporary = f"{self._folder}/{UNFINISHED}{name}.{secrets.token_hex(4)}"
        self._file = open(self._temporary, "xb")  # noqa: SIM115 (commit or discard closes it)

    def write(self, body: bytes) -> None:
        self._file.write(body)

    def commit(self) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        os.replace(self._temporary, self._path)
        # Names are durable with their folder: the file's own, and those of folders that are new.
        above = os.path.dirname(self._folder)
        for folder in (self._folder, above, os.path.dirname(above)):
            _sync_folder(folder)

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            os.unlink(self._temporary)


class ObjectDraft:
    """Of an object store: it shows an object once all of it is there."""

    def __init__(self, fs: Any, path: str) -> None:
        self._file = fs.open(path, "wb", autocommit=False)

    def write(self, body: bytes) -> None:
        self._file.write(body)

    def commit(self) -> None:
        self._file.close()
        self._file.commit()

    def discard(self) -> None:
        self._file.discard()


@contextmanager
def _unavailable(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise BlobsUnavailable(
            f"{path} cannot be stored ({exc.strerror or exc}): make room, or check CHIMERA_BLOB_URL and "
            "its disk"
        ) from exc


def _named(path: str, do: Callable[P, T]) -> Callable[P, T]:
    """The same, but for its failure, which names the file."""

    def done(*args: P.args, **kwargs: P.kwargs) -> T:
        with _unavailable(path):
            return do(*args, **kwargs)

    return done


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
