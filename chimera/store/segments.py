"""One file of the recorder's archive: events as lines of JSON in a zstd frame, behind its contents.

    skippable frame   the contents: which events, of which missions, and the hash chain at both ends
    frame             one event a line, with zstd's own checksum

Decoders pass over the first frame, so ``zstd -dc FILE`` prints plain NDJSON. To know whether a
mission is in a segment only the first frame is read.

The chain: each line's hash is SHA-256 over the hash of the line before and the line itself, newline
included, so it is the same however lines are cut into segments. An event that is changed, removed or
put in breaks it, unless all that follows is written anew too.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chimera.core.event import VERSION, Event, Position
from chimera.errors import CorruptRecord

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SKIPPABLE = 0x184D2A50
_FRAME = struct.Struct("<II")
HEAD_BYTES = 16_384
"""Enough of a file to hold the contents of nearly every segment."""
OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.checksum_flag: 1,
}

Line = tuple[Position, Event]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a segment holds.

    Attributes:
        first, last: the positions behind its first and its last event.
        before: the chain's hash (hex) of the line before the first; "" at the very beginning.
        after: that of its last line.
        missions: whose events are among them.
    """

    first: Position
    last: Position
    lines: int
    before: str
    after: str
    missions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the recorder's stream, as it was read: a segment is written of these, an event a line.

    Attributes:
        epoch: it was written in.
        name: its id in the stream.
        fields: see `chimera.core.event.expand`.
    """

    epoch: int
    name: str
    fields: Mapping[str, str]

    @property
    def last(self) -> Position:
        """Behind its last event."""
        return Position(self.epoch, int(self.fields["seq"]), self.name)


def encode(entries: Sequence[Entry], before: str) -> tuple[Contents, bytes]:
    """A segment's contents and its bytes.

    Args:
        entries: at least one; their events' numbers without a gap.
        before: the chain's hash of the line before.
    Raises:
        CorruptRecord: an entry cannot be read.
    """
    lines: list[bytes] = []
    missions: set[str] = set()
    for entry in entries:
        try:
            lines += _lines(entry, missions)
        except (ValueError, KeyError, TypeError) as exc:
            raise CorruptRecord(f"entry {entry.name} of the stream cannot be read ({exc!r})") from exc
    first, last = entries[0], entries[-1].last
    contents = Contents(
        first=Position(first.epoch, last.seq - len(lines) + 1, first.name),
        last=last,
        lines=len(lines),
        before=before,
        after=_chain(before, lines),
        missions=frozenset(missions),
    )
    head = zstd.compress(_head(contents), options=OPTIONS)
    body = zstd.compress(b"".join(lines), options=OPTIONS)
    return contents, _FRAME.pack(SKIPPABLE, len(head)) + head + body


def head_size(start: bytes) -> int:
    """How many bytes of a file its contents take, from its first eight. Raises CorruptRecord."""
    if len(start) < _FRAME.size or (frame := _FRAME.unpack_from(start))[0] != SKIPPABLE:
        raise CorruptRecord("this is no segment of a recorder's archive")
    return _FRAME.size + int(frame[1])


def contents_of(start: bytes) -> Contents:
    """A segment's contents, from its first `head_size` bytes or more. Raises CorruptRecord."""
    size = head_size(start)
    if len(start) < size:
        raise CorruptRecord("a segment ends within its contents")
    try:
        said = json.loads(zstd.decompress(start[_FRAME.size : size]))
        return Contents(
            first=Position.parse(said["first"]),
            last=Position.parse(said["last"]),
            lines=int(said["lines"]),
            before=said["before"],
            after=said["after"],
            missions=frozenset(said["missions"]),
        )
    except (zstd.ZstdError, ValueError, KeyError, TypeError) as exc:
        raise CorruptRecord(f"a segment's contents cannot be read ({exc})") from exc


def decode(body: bytes, mission_id: str = "", tenant: str = "") -> list[Line]:
    """A segment's events, all of them or one mission's, as a tenant's. Nothing of a damaged one is given.

    Raises:
        CorruptRecord: it is cut short, or its lines are not those that were written.
    """
    _, lines = _checked(body)
    return list(_events(lines, mission_id, tenant))


def links(body: bytes) -> tuple[Contents, list[bytes], list[str]]:
    """A segment's contents, its lines, and the chain's hash before the first and behind each of them.

    Raises:
        CorruptRecord: see `decode`.
    """
    contents, lines = _checked(body)
    found = [contents.before]
    for line in lines:
        found.append(_chain(found[-1], [line]))
    return contents, lines, found


def lines_of(entry: Entry) -> list[bytes]:
    """An entry's events as the archive has them, or will. Raises CorruptRecord."""
    try:
        return list(_lines(entry, set()))
    except (ValueError, KeyError, TypeError) as exc:
        raise CorruptRecord(f"entry {entry.name} of the stream cannot be read ({exc!r})") from exc


def chained(before: str, lines: Iterable[bytes]) -> str:
    """The chain's hash behind some lines."""
    return _chain(before, lines)


def _checked(body: bytes) -> tuple[Contents, list[bytes]]:
    contents = contents_of(body)
    try:
        lines = zstd.decompress(body[head_size(body) :]).splitlines(keepends=True)
    except zstd.ZstdError as exc:
        raise CorruptRecord(f"a segment is damaged or cut short ({exc})") from exc
    if len(lines) != contents.lines or _chain(contents.before, lines) != contents.after:
        raise CorruptRecord("a segment's lines are not those its hash chain was made of")
    return contents, lines


def _events(lines: Iterable[bytes], mission_id: str, tenant: str) -> Iterable[Line]:
    for line in lines:
        said: dict[str, Any] = json.loads(line)
        if not mission_id or said["mission_id"] == mission_id:
            entry = said.pop("entry")
            event = Event.model_validate(said | {"tenant": tenant})
            yield Position(event.epoch, event.seq, entry), event


_compact = json.JSONEncoder(separators=(",", ":")).encode
_quoted = json.encoder.encode_basestring_ascii


def _lines(entry: Entry, missions: set[str]) -> Iterable[bytes]:
    """An entry's events as lines, each as `Event` in JSON; their missions are added.

    Put together by hand: a quarter of a million events a minute pass here. ASCII, so that a text which is no
    valid Unicode, as JSON's escapes allow, does not stop the archive.
    """
    events = json.loads(entry.fields["events"])
    seq = int(entry.fields["seq"]) - len(events)
    at = datetime.fromtimestamp(int(entry.fields["at"]) / 1_000_000, UTC).isoformat(timespec="microseconds")
    by, name = _quoted(entry.fields["by"]), _quoted(entry.name)
    for kind, mission_id, task_id, details in events:
        seq += 1
        if mission_id:
            missions.add(mission_id)
        yield (
            f'{{"v":{VERSION},"epoch":{entry.epoch},"seq":{seq},"at":"{at}","kind":{_quoted(kind)},"by":{by},'
            f'"mission_id":{_quoted(mission_id)},"task_id":{_quoted(task_id)},'
            f'"details":{_compact(details) if details else "{}"},"entry":{name}}}\n'
        ).encode()


def _head(contents: Contents) -> bytes:
    said = {
        "first": str(contents.first),
        "last": str(contents.last),
        "lines": contents.lines,
        "before": contents.before,
        "after": contents.after,
        "missions": sorted(contents.missions),
    }
    return json.dumps(said, separators=(",", ":")).encode()


def _chain(before: str, lines: Iterable[bytes]) -> str:
    link = bytes.fromhex(before)
    for line in lines:
        link = hashlib.sha256(link + line).digest()
    return link.hex()
