"""Bulk: mission inputs as NDJSON segments in a directory or any fsspec location.

Inputs are written, and on a local disk synced, before the mission is acknowledged. Redis never
holds them all: the planner reads the window it needs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import fsspec
import orjson

from chimera.errors import CorruptRecord, StoreUnavailable

SEGMENT = 1_000
"""Inputs in one segment."""


class Blobs:
    """Inputs of every mission, by tenant."""

    def __init__(self, location: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(location, auto_mkdir=True)

    async def write_inputs(self, tenant: str, mission_id: str, items: Sequence[Any]) -> None:
        """Write all inputs of a mission; writing the same again changes nothing.

        Raises:
            StoreUnavailable: the place cannot be written; nothing was acknowledged.
        """
        await asyncio.to_thread(self._write, tenant, mission_id, items)

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

    def _path(self, tenant: str, mission_id: str, segment: int) -> str:
        return f"{self._root}/{tenant}/{mission_id}/inputs-{segment:06d}.ndjson"

    def _write(self, tenant: str, mission_id: str, items: Sequence[Any]) -> None:
        for start in range(0, len(items), SEGMENT):
            body = b"".join(
                orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE)
                for item in items[start : start + SEGMENT]
            )
            try:
                with self._fs.open(self._path(tenant, mission_id, start // SEGMENT), "wb") as file:
                    file.write(body)
                    file.flush()
                    # Only a local file has a descriptor; object stores are durable once closed.
                    if (descriptor := _descriptor(file)) is not None:
                        os.fsync(descriptor)
            except OSError as exc:
                raise StoreUnavailable(
                    f"the inputs cannot be stored ({exc}): check CHIMERA_BLOB_URL and its disk"
                ) from exc

        _sync_folder(self._path(tenant, mission_id, 0).rpartition("/")[0])

    def _read(self, tenant: str, mission_id: str, start: int, end: int) -> Iterator[Any]:
        for segment in range(start // SEGMENT, -(-end // SEGMENT)):
            path = self._path(tenant, mission_id, segment)
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


def _sync_folder(folder: str) -> None:
    """Make the new files' names durable too, where the folder is a local one."""
    if os.path.isdir(folder):
        for path in (folder, os.path.dirname(folder)):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _descriptor(file: Any) -> int | None:
    raw = getattr(file, "f", file)
    try:
        return int(raw.fileno())
    except (AttributeError, OSError, ValueError):
        return None
