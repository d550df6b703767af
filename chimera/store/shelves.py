"""Shelves: accepted tasks of a large mission under way, out of Redis in files of the blob store.

    <location>/<tenant>/<mission id>/tasks-000500-3f2a….ndjson.zst
                                           │      SHA-256 of its lines, in hex
                                           the first task of its block

The tasks of a large mission are numbered, in blocks of `BLOCK`. Once nothing of a block is under way, its
accepted tasks are written to a file, or to several where they are large, and leave Redis in one step
(`shelve_tasks.lua`), in which the files' names are noted. What is not accepted stays: it may be redriven, or
answered by a human. A file is one zstd frame with a task a line, as it stood in Redis, and its name says what
is in it: so whoever writes it again, after a crash or under an older term, writes the same or another one.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from chimera.errors import CorruptRecord
from chimera.store.archive import damaged
from chimera.store.blobs import Blobs
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Refusal, Scripts, under_term
from chimera.store.segments import OPTIONS
from chimera.store.tasks import Raw

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK = 500
"""Tasks of a block."""
FILE_BYTES = 1 << 20
"""A file ends behind the line that brings it to so many bytes, before compression."""
WINDOW = 50
"""Tasks read into memory at once."""
_PREFIX, _SUFFIX = "tasks-", ".ndjson.zst"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a large mission is, in tasks."""

    mission_id: str
    planned: int
    planned_all: bool
    accepted: int
    shelved: int


class Shelf:
    """One tenant's."""

    def __init__(self, redis: Redis, blobs: Blobs, tenant: str) -> None:
        self._redis, self._blobs, self._tenant = redis, blobs, tenant
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)
        self._last: tuple[str, dict[str, bytes]] = ("", {})
        """The file read last: pages of a list are smaller than blocks."""

    async def standings(self) -> list[Standing]:
        """Every large mission that is in Redis."""
        with translated():
            ids = sorted(await self._redis.smembers(self.keys.large))
            async with self._redis.pipeline(transaction=False) as pipe:
                for mission_id in ids:
                    pipe.hmget(self.keys.of("mission", mission_id), "planned", "planned_all", "shelved")
                    pipe.hget(self.keys.of("counts", mission_id), "ACCEPTED")
                rows = await pipe.execute()
            return [
                Standing(mission_id, int(planned or 0), whole == "1", int(accepted or 0), int(shelved or 0))
                for mission_id, (planned, whole, shelved), accepted in zip(
                    ids, rows[::2], rows[1::2], strict=True
                )
            ]

    async def blocks(self, mission_id: str) -> set[int]:
        """The blocks of a mission of which something is shelved, each by its first task's number."""
        with translated():
            found = await self._redis.zrange(self.keys.of("shelf", mission_id), 0, -1, withscores=True)
            return {int(first) for _, first in found}

    async def ready(self, mission_id: str, first: int, last: int, *, quiet_s: float) -> list[str] | None:
        """Ids of a block's accepted tasks, if nothing of it is under way nor was for so long; else None."""
        answer = await self._scripts.run(
            "check_block", [self.keys.root], mission_id, first, last, round(quiet_s * 1e6)
        )
        return list(answer[1]) if answer[0] else None

    async def read(self, task_ids: Sequence[str]) -> list[Raw]:
        """Tasks as they are in Redis, in the order asked; empty ones where there is nothing."""
        rows = await self._scripts.run("read_tasks", [self.keys.root], *task_ids)
        return [Raw(_pairs(spec), _pairs(task), _pairs(commit), said) for spec, task, commit, said in rows]

    async def shelve(self, mission_id: str, first: int, fetched: Fetched, *, term: int, by: str) -> bool:
        """Take a block's tasks out of Redis, once their files stand. False: look at it anew.

        Raises:
            OldTerm: a newer leader acts.
        """
        answer = await self._scripts.run(
            "shelve_tasks",
            [self.keys.root],
            mission_id,
            term,
            first,
            fetched.sha256,
            by,
            " ".join(fetched.names),
            *(field for one in fetched.spent for field in one),
        )
        return under_term(answer) not in (Refusal.LOST, Refusal.MISSING)

    def writing(self, mission_id: str, first: int) -> Fetched:
        """Begin the files of a block."""
        return Fetched(self._blobs, f"{self._tenant}/{mission_id}", first)

    async def find(self, task_ids: Sequence[str]) -> dict[str, Raw]:
        """Those of the tasks that are on the shelf, by id.

        Raises:
            CorruptRecord: a file of theirs is missing or damaged.
            BlobsUnavailable: the place cannot be read.
        """
        wanted: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for task_id in task_ids:
            mission_id, _, number = task_id.partition(".")
            if number.isdecimal():
                wanted[mission_id, int(number) // BLOCK * BLOCK].add(task_id)
        found: dict[str, Raw] = {}
        for (mission_id, first), ids in wanted.items():
            with translated():
                names = await self._redis.zrangebyscore(self.keys.of("shelf", mission_id), first, first)
            for name in names:
                if not ids:
                    break
                lines = await self._lines(f"{self._tenant}/{mission_id}/{name}")
                for task_id in ids & lines.keys():
                    found[task_id] = _raw(orjson.loads(lines[task_id]))
                    ids.remove(task_id)
        return found

    async def clear(self, mission_id: str) -> None:
        """Remove all of a mission's files, also those that no step noted. Idempotent.

        Raises:
            BlobsUnavailable: the place cannot be changed.
        """
        folder = f"{self._tenant}/{mission_id}"
        for name in await self._blobs.names(folder):
            if name.startswith(_PREFIX):
                await self._blobs.remove(f"{folder}/{name}")

    async def _lines(self, path: str) -> dict[str, bytes]:
        if self._last[0] != path:
            body = await self._blobs.read(path)
            with damaged(path):
                self._last = path, await asyncio.to_thread(_decoded, body, path)
        return self._last[1]


class Fetched:
    """A block's tasks on their way into files. Attribute `names`: the files that are whole."""

    def __init__(self, blobs: Blobs, folder: str, first: int) -> None:
        self._blobs, self._folder, self._first = blobs, folder, first
        self._lines: list[bytes] = []
        self._bytes = 0
        self._all = hashlib.sha256()
        self.names: list[str] = []
        self.spent: list[tuple[str, str]] = []
        """Each task's id, and what was spent on it when it was read: a late settlement corrects that."""

    @property
    def sha256(self) -> str:
        """Of all lines, in hex."""
        return self._all.hexdigest()

    async def add(self, task_id: str, raw: Raw) -> None:
        """The task that follows. Raises BlobsUnavailable; so with `end`."""
        line = orjson.dumps({"task_id": task_id, **raw._asdict()}, option=orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)
        self._bytes += len(line)
        self.spent.append((task_id, raw.task.get("spent", "0")))
        if self._bytes >= FILE_BYTES:
            await self.end()

    async def end(self) -> None:
        """No more follow; what there is is stored, durably."""
        if not self._lines:
            return
        body, self._lines, self._bytes = b"".join(self._lines), [], 0
        self._all.update(body)
        digest = hashlib.sha256(body).hexdigest()
        name = f"{_PREFIX}{self._first:07d}-{digest}{_SUFFIX}"
        frame = await asyncio.to_thread(zstd.compress, body, options=OPTIONS)
        await self._blobs.write(f"{self._folder}/{name}", frame)
        self.names.append(name)


def _decoded(body: bytes, path: str) -> dict[str, bytes]:
    try:
        lines = zstd.decompress(body)
    except zstd.ZstdError as exc:
        raise CorruptRecord(f"it is damaged or cut short ({exc})") from exc
    if hashlib.sha256(lines).hexdigest() != path.removesuffix(_SUFFIX)[-64:]:
        raise CorruptRecord("its lines are not those that its name was made of")
    return {orjson.loads(line)["task_id"]: line for line in lines.splitlines()}


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _raw(said: dict[str, object]) -> Raw:
    return Raw(**{name: said[name] for name in Raw._fields})  # type: ignore[arg-type]  # (we wrote it)
