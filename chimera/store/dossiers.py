"""Dossiers: finished missions, a file each, in the blob store. What stands there needs no Redis to be read.

    <location>/<tenant>/missions/m01jd/m01jdxk4v0a8c3m9q2w7r.ndjson.zst
                                 │     the mission's id
                                 its first characters: some twelve days of missions

A file is lines of JSON in frames of zstd, and its contents behind them:

    frame             the mission
    frame …           its tasks in the order planned, each with its result, verdicts and actions
    skippable frame   the contents: how long each frame is, and which tasks are in it

Decoders pass over the last frame, so ``zstd -dc FILE`` prints plain NDJSON: the mission on its first
line, then a task a line. Its SHA-256 stands in the recorder's event `mission.archived`, and so in the hash
chain of the recorder's archive. To read a mission costs one read of the file's end, and where it is large
one of each frame that is wanted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import struct
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel
from pydantic_core import from_json

from chimera.core.action import ActionStatus, parse_action
from chimera.core.mission import MissionBase, MissionStatus
from chimera.core.verdict import Verdict
from chimera.errors import CorruptRecord, NotFound
from chimera.store.actions import ActionRecord
from chimera.store.archive import damaged
from chimera.store.blobs import Blobs
from chimera.store.missionrecord import MissionRecord, MissionState
from chimera.store.results import Batch, filed
from chimera.store.segments import OPTIONS, SKIPPABLE
from chimera.store.tasks import TaskRecord

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

T = TypeVar("T")

VERSION = 1
FRAME_TASKS = 500
"""A frame ends with so many tasks …"""
FRAME_BYTES = 1 << 20
"""… or behind the line that brings it to so many bytes, before compression."""
TAIL_BYTES = 32_768
"""Enough of a file's end for the contents of nearly every one, and for the whole of most."""
FOLDER_CHARS = 5
_FRAME = struct.Struct("<II")
_FOOT = struct.Struct("<I4s")
"""The end of the file: how long the contents are, compressed, and our mark."""
_MARK = b"cdos"
_SUFFIX = ".ndjson.zst"
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")

Filed = tuple[TaskRecord, list[ActionRecord]]
"""A task, and the actions of its accepted result."""


class Frame(NamedTuple):
    """What one frame of tasks holds.

    Attributes:
        size: its bytes.
        tasks, actions: how many.
        first, last: tasks that bear a number are those from `first` to `last`; -1 without one.
        named: names of the others.
    """

    size: int
    tasks: int
    actions: int
    first: int
    last: int
    named: Sequence[str]

    def has(self, name: str) -> bool:
        """Whether the task of this name is in it."""
        return self.first <= int(name) <= self.last if name.isdecimal() else name in self.named


class Draft:
    """A dossier while it is written."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self._digest = hashlib.sha256()
        self._sizes: list[int] = []
        self._frames: list[Frame] = []
        self._lines: list[bytes] = []
        self._inside: list[Filed] = []
        self._bytes = 0
        self.tasks = 0

    @property
    def sha256(self) -> str:
        """Of all lines so far, in hex."""
        return self._digest.hexdigest()

    async def begin(self, mission: MissionRecord) -> None:
        """The first line."""
        self._mission_id = mission.mission_id
        self._lines = [line_of("mission", mission)]
        self._mission_bytes = await self._frame()

    async def add(self, filed: Sequence[Filed]) -> None:
        """The tasks that follow."""
        for task, actions in filed:
            line = line_of("task", task, actions=actions)
            self._lines.append(line)
            self._inside.append((task, actions))
            self._bytes += len(line)
            self.tasks += 1
            if len(self._inside) >= FRAME_TASKS or self._bytes >= FRAME_BYTES:
                await self._tasks_frame()

    async def end(self) -> None:
        """The contents."""
        if self._inside:
            await self._tasks_frame()
        said = {
            "version": VERSION,
            "mission_id": self._mission_id,
            "tasks": self.tasks,
            "mission_bytes": self._mission_bytes,
            "frames": self._frames,
        }
        contents = zstd.compress(json.dumps(said, separators=(",", ":")).encode(), options=OPTIONS)
        await self._write(_FRAME.pack(SKIPPABLE, len(contents) + _FOOT.size))
        await self._write(contents + _FOOT.pack(len(contents), _MARK))

    async def _tasks_frame(self) -> None:
        names = [task.task_id.partition(".")[2] for task, _ in self._inside]
        numbers = [int(name) for name in names if name.isdecimal()]
        actions = sum(len(actions) for _, actions in self._inside)
        size = await self._frame()
        self._frames.append(
            Frame(
                size,
                len(names),
                actions,
                numbers[0] if numbers else -1,
                numbers[-1] if numbers else -1,
                [name for name in names if not name.isdecimal()],
            )
        )
        self._inside, self._bytes = [], 0

    async def _frame(self) -> int:
        body = b"".join(self._lines)
        self._lines = []
        self._digest.update(body)
        frame = await asyncio.to_thread(zstd.compress, body, options=OPTIONS)
        await self._write(frame)
        return len(frame)


class Dossier:
    """A finished mission's file, opened. Attribute `mission` is what its first line says."""

    def __init__(self, blobs: Blobs, path: str, tail: bytes, contents: Mapping[str, Any], size: int) -> None:
        self._blobs, self._path = blobs, path
        self._frames = [Frame(*one) for one in contents["frames"]]
        self._mission_bytes = int(contents["mission_bytes"])
        self._tail, self._from = tail, size - len(tail)
        self.mission: MissionRecord

    async def load(self) -> None:
        """Read the mission."""
        (said,) = await self._lines(0, self._mission_bytes)
        with damaged(self._path):
            self.mission = _made(_mission, said)

    async def filed(self, offset: int, most: int) -> list[Filed]:
        """Tasks, with their actions, in the order planned."""
        found: list[Filed] = []
        passed = 0
        for start, frame in self._placed():
            if passed + frame.tasks > offset:
                found += await self._read(start, frame, max(0, offset - passed), most - len(found))
            if len(found) >= most:
                break
            passed += frame.tasks
        return found

    async def accepted(self, offset: int) -> Batch:
        """Accepted results in the order planned, from a task's position on: those of one frame."""
        passed = 0
        for start, frame in self._placed():
            if passed + frame.tasks > offset:
                said = (await self._tasks(start, frame))[offset - passed :]
                with damaged(self._path):
                    found = [_made(partial(filed, at), one) for at, one in enumerate(said, offset)]
                return Batch([one for one in found if one], passed + frame.tasks)
            passed += frame.tasks
        return Batch([], None)

    async def actions(self, offset: int, most: int) -> list[ActionRecord]:
        """Actions of accepted results, in the order of their tasks."""
        found: list[ActionRecord] = []
        passed = 0
        for start, frame in self._placed():
            if frame.actions and passed + frame.actions > offset:
                inside = [one for _, some in await self._read(start, frame, 0, frame.tasks) for one in some]
                found += inside[max(0, offset - passed) :]
            if len(found) >= most:
                break
            passed += frame.actions
        return found[:most]

    async def task(self, task_id: str) -> Filed:
        """One task.

        Raises:
            NotFound: the mission has none of that id.
        """
        name = task_id.partition(".")[2]
        for start, frame in self._placed():
            if frame.has(name):
                for filed in await self._read(start, frame, 0, frame.tasks):
                    if filed[0].task_id == task_id:
                        return filed
        raise NotFound(f"there is no task {task_id!r}")

    def _placed(self) -> list[tuple[int, Frame]]:
        at, placed = self._mission_bytes, []
        for frame in self._frames:
            placed.append((at, frame))
            at += frame.size
        return placed

    async def _read(self, start: int, frame: Frame, skip: int, most: int) -> list[Filed]:
        said = await self._tasks(start, frame)
        with damaged(self._path):
            return [_made(_filed, one) for one in said[skip : skip + most]]

    async def _tasks(self, start: int, frame: Frame) -> list[Any]:
        said = await self._lines(start, frame.size)
        with damaged(self._path):
            if len(said) != frame.tasks:
                raise CorruptRecord("a frame of it has not the tasks that its contents name")
        return said

    async def _lines(self, start: int, size: int) -> list[Any]:
        if start >= self._from:
            body = self._tail[start - self._from :][:size]
        else:
            body = await self._blobs.part(self._path, start, size)
        with damaged(self._path):
            return await asyncio.to_thread(_decoded, body)


class Dossiers:
    """One tenant's."""

    def __init__(self, blobs: Blobs, tenant: str) -> None:
        self._blobs = blobs
        self._root = f"{tenant}/missions"

    @asynccontextmanager
    async def writing(self, mission: MissionRecord) -> AsyncIterator[Draft]:
        """Write a mission's; add its tasks within the block. It is there once the block has ended well.

        Raises:
            BlobsUnavailable: there is no room, or no way to the place; nothing of it is there.
        """
        async with self._blobs.writing(self._path(mission.mission_id)) as write:
            draft = Draft(write)
            await draft.begin(mission)
            yield draft
            await draft.end()

    async def find(self, mission_id: str) -> Dossier | None:
        """A mission's; None when there is none.

        Raises:
            CorruptRecord: it is damaged.
            BlobsUnavailable: the place cannot be read.
        """
        if not _ID.fullmatch(mission_id):
            return None
        path = self._path(mission_id)
        tail = await self._blobs.tail(path, TAIL_BYTES)
        if tail is None:
            return None
        with damaged(path):
            whole = _foot(tail) + _FRAME.size
            if whole > len(tail):
                tail = await self._blobs.tail(path, whole) or b""
                _foot(tail)
            contents = _contents(tail, mission_id)
        size = contents["mission_bytes"] + sum(one[0] for one in contents["frames"]) + whole
        dossier = Dossier(self._blobs, path, tail, contents, size)
        await dossier.load()
        return dossier

    async def ids(self, *, before: str = "", most: int = 50) -> list[str]:
        """Ids of missions that have one, the last submitted first; those before an id."""
        found: list[str] = []
        for folder in reversed(await self._blobs.names(self._root)):
            if before and folder > before[:FOLDER_CHARS]:
                continue
            names = reversed(await self._blobs.names(f"{self._root}/{folder}"))
            ids = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
            found += [one for one in ids if not before or one < before]
            if len(found) >= most:
                break
        return found[:most]

    async def clear_unfinished(self) -> None:
        """Remove what writers that died left behind. Idempotent."""
        for folder in await self._blobs.names(self._root):
            await self._blobs.clear_unfinished(f"{self._root}/{folder}")

    def _path(self, mission_id: str) -> str:
        return f"{self._root}/{mission_id[:FOLDER_CHARS]}/{mission_id}{_SUFFIX}"


def line_of(kind: str, record: MissionRecord | TaskRecord, **more: Any) -> bytes:
    """A record as a line of JSON: its fields by their names."""
    said = {"kind": kind} | {one.name: getattr(record, one.name) for one in fields(record)} | more
    # ASCII, so that a text which is no valid Unicode, as JSON's escapes allow, does not stop it.
    return json.dumps(said, default=_plain, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return {one.name: getattr(value, one.name) for one in fields(value)}


def _foot(tail: bytes) -> int:
    """The size of the contents' frame without its head, from the end of a file. Raises CorruptRecord."""
    if len(tail) < _FOOT.size or (foot := _FOOT.unpack(tail[-_FOOT.size :]))[1] != _MARK:
        raise CorruptRecord("this is no finished mission's file, or its end is missing")
    return int(foot[0]) + _FOOT.size


def _contents(tail: bytes, mission_id: str) -> dict[str, Any]:
    try:
        said = json.loads(zstd.decompress(tail[-_foot(tail) : -_FOOT.size]))
        if said["version"] > VERSION:
            raise CorruptRecord("a newer version wrote it: update the hub")
        if said["mission_id"] != mission_id:
            raise CorruptRecord(f"it is the file of mission {said['mission_id']}")
        return dict(said)
    except (zstd.ZstdError, ValueError, KeyError, TypeError) as exc:
        raise CorruptRecord(f"its contents cannot be read ({exc})") from exc


def _decoded(body: bytes) -> list[Any]:
    try:
        return [_value(line) for line in zstd.decompress(body).splitlines()]
    except (zstd.ZstdError, ValueError) as exc:
        raise CorruptRecord(f"it is damaged or cut short ({exc})") from exc


def _value(line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:
        return json.loads(line)  # it reads texts that are no valid Unicode, too


def _made(make: Any, said: Mapping[str, Any]) -> Any:
    try:
        return make(said)
    except (KeyError, TypeError, ValueError) as exc:
        raise CorruptRecord(f"a line of it cannot be read ({exc})") from exc


def _mission(said: Mapping[str, Any]) -> MissionRecord:
    return _record(
        MissionRecord,
        said,
        status=MissionStatus(said["status"]),
        state=_record(MissionState, said["state"]),
        spec=MissionBase.model_validate(said["spec"]),
    )


def _filed(said: Mapping[str, Any]) -> Filed:
    actions = [
        _record(
            ActionRecord,
            one,
            status=ActionStatus(one["status"]),
            action=parse_action(json.dumps(one["action"])),
        )
        for one in said["actions"]
    ]
    lists = {name: tuple(said[name]) for name in ("depends_on", "needed_by", "feedback")}
    task = _record(
        TaskRecord,
        said,
        **lists,
        verdicts=tuple(map(Verdict.model_validate, said["verdicts"])),
        proposed=tuple(parse_action(json.dumps(one)) for one in said["proposed"]),
        actions=len(actions),
    )
    return task, actions


def _record(cls: type[T], said: Mapping[str, Any], **made: Any) -> T:
    """A record from a line; what another version wrote beside is passed over."""
    known = {one.name for one in fields(cls)}  # type: ignore[arg-type]  # (a dataclass)
    return cls(**{name: value for name, value in said.items() if name in known} | made)
