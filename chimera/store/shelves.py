"""Shelves: accepted tasks of a large mission under way, out of Redis in files of the blob store.

    <location>/<tenant>/<mission id>/tasks-000500-3f2a….ndjson.zst
                                           │      SHA-256 of its lines, in hex
                                           the first task in it

The tasks of a large mission are numbered, in blocks of `BLOCK`. Once nothing of a block is under way, its
accepted tasks are written to a file, or to several where they are large, and leave Redis in one step
(`shelve_tasks.lua`), in which the files' names are noted. What is not accepted stays: it may be redriven, or
answered by a human. Once it is accepted it may leave too, in a further file of its block. A file is one zstd
frame with a task a line, as it stood in Redis, and its name says what is in it: so whoever writes it again,
after a crash or under an older term, writes the same or another one.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from chimera.core.shelving import BLOCK
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

FILE_BYTES = 1 << 20
"""A file ends behind the line that brings it to so many bytes, before compression."""
WINDOW = 50
"""Tasks read into memory at once."""
KEPT = 4
"""Files that were read last are kept in memory: whoever reads a block does it in several steps."""
_PREFIX, _SUFFIX = "tasks-", ".ndjson.zst"
_BEGINS = b'{"task_id":"'


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a large mission is, in tasks."""

    mission_id: str
    planned: int
    planned_all: bool
    accepted: int
    shelved: int

    @property
    def here(self) -> int:
        """Accepted tasks that stand in Redis."""
        return self.accepted - self.shelved


class Shelf:
    """One tenant's."""

    def __init__(self, redis: Redis, blobs: Blobs, tenant: str) -> None:
        self._redis, self._blobs, self._tenant = redis, blobs, tenant
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)
        self._kept: OrderedDict[str, dict[str, bytes]] = OrderedDict()
        """Files by their path, each a line by task id; the one used last stands last."""

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

    async def ready(
        self, mission_id: str, first: int, last: int, *, quiet_s: float, under_way: int = 0
    ) -> tuple[list[str], int] | None:
        """Ids of a block's accepted tasks that may leave, and how many others of it are here.

        None: more than so many are under way, or ended within the last `quiet_s`.
        """
        answer = await self._scripts.run(
            "check_block", [self.keys.root], mission_id, first, last, round(quiet_s * 1e6), under_way
        )
        return (list(answer[1]), int(answer[2])) if answer[0] else None

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

    def writing(self, mission_id: str) -> Fetched:
        """Begin the files of a block."""
        return Fetched(self._blobs, f"{self._tenant}/{mission_id}")

    async def find(self, task_ids: Sequence[str], *, most_bytes: int | None = None) -> dict[str, Raw]:
        """Those of the tasks that are on the shelf, by id.

        Args:
            most_bytes: no more than the file that brings them to so many; those asked first come first.
        Raises:
            CorruptRecord: a file of theirs is missing or damaged.
            BlobsUnavailable: the place cannot be read.
        """
        wanted: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for task_id in task_ids:
            mission_id, _, number = task_id.partition(".")
            if number.isdecimal():
                wanted[mission_id, int(number) // BLOCK * BLOCK].add(task_id)
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for mission_id, first in wanted:
                    pipe.zrangebyscore(self.keys.of("shelf", mission_id), first, first)
                noted = await pipe.execute()
        found: dict[str, Raw] = {}
        left = math.inf if most_bytes is None else most_bytes
        for ((mission_id, _), ids), names in zip(wanted.items(), noted, strict=True):
            for task_id in sorted(ids, key=_number):
                if task_id in found:
                    continue
                if left <= 0:
                    return found
                lines = await self._holding(mission_id, names, task_id)
                for one in (ids & lines.keys()) - found.keys():
                    found[one] = raw_of(lines[one])
                    left -= len(lines[one])
        return found

    async def run(self, mission_id: str, first: int) -> list[bytes] | None:
        """The lines of tasks from a number on that follow one another in one file, for `raw_of`.

        None: the mission is not in Redis any more.

        Raises as `find` does.
        """
        block = first // BLOCK * BLOCK
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hmget(self.keys.of("mission", mission_id), "status", "archived_at")
                pipe.zrangebyscore(self.keys.of("shelf", mission_id), block, block)
                (status, archived), names = await pipe.execute()
        if status is None or archived is not None:
            return None
        lines = await self._holding(mission_id, names, f"{mission_id}.{first}")
        found: list[bytes] = []
        while line := lines.get(f"{mission_id}.{first + len(found)}"):
            found.append(line)
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

    async def _holding(self, mission_id: str, names: Sequence[str], task_id: str) -> dict[str, bytes]:
        """The lines of that of a block's files which has the task; none where no file has it."""
        number = _number(task_id)
        begins = sorted(((int(name.split("-")[1]), name) for name in names), reverse=True)
        for begin, name in begins:  # it is in the last one that begins before it, as a rule
            if begin <= number:
                lines = await self._lines(f"{self._tenant}/{mission_id}/{name}")
                if task_id in lines:
                    return lines
        return {}

    async def _lines(self, path: str) -> dict[str, bytes]:
        if (lines := self._kept.get(path)) is None:
            body = await self._blobs.read(path)
            with damaged(path):
                lines = self._kept[path] = await asyncio.to_thread(_decoded, body, path)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        return lines


class Fetched:
    """A block's tasks on their way into files. Attribute `names`: the files that are whole."""

    def __init__(self, blobs: Blobs, folder: str) -> None:
        self._blobs, self._folder, self._first = blobs, folder, -1
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
        if not self._lines:
            self._first = _number(task_id)
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
    return {_task_id(line): line for line in lines.splitlines()}


def _task_id(line: bytes) -> str:
    # `Fetched.add` wrote it, as the digest proves: the id comes first.
    return line[len(_BEGINS) : line.index(b'"', len(_BEGINS))].decode()


def _number(task_id: str) -> int:
    return int(task_id.partition(".")[2])


def raw_of(line: bytes) -> Raw:
    """The task of a line."""
    said = orjson.loads(line)
    return Raw(said["spec"], said["task"], said["commit"], said["verdicts"])
