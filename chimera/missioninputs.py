"""A mission's inputs from files: text, JSON lines, CSV."""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from chimera.core.mission import InputFiles
from chimera.errors import InvalidRequest

BINARY = "is a binary file: inputs are text, JSON lines or CSV in UTF-8"
CSV_LINE = 16_777_216
"""Characters of one line of CSV."""


class Unusable(Exception):
    """A file that gives no items; the message says why and what to do."""


class Source(NamedTuple):
    """A file of items.

    Attributes:
        name: as people know it, from the mission file's folder.
        pattern: which of the patterns named it first.
    """

    path: Path
    name: str
    pattern: int


@dataclass(frozen=True)
class FileItems:
    """The items of files, in the order of the files' paths: read as they are gone through, each time anew."""

    sources: tuple[Source, ...]
    inputs: InputFiles
    line_bytes: int
    """No line of JSON lines is longer."""

    def __iter__(self) -> Iterator[Any]:
        for source in self.sources:
            try:
                for _, item in self.read(source):
                    yield item
            except Unusable as exc:
                raise InvalidRequest(
                    f"{source.name} changed while it was read: it {exc}; nothing was submitted"
                ) from exc

    def read(self, source: Source) -> Iterator[tuple[str, Any]]:
        """The items of one file, each with where it came from.

        Raises:
            Unusable: it cannot be read, is no text, or does not have its format.
        """
        if self.inputs.format == "text":
            text = head(_text(source.path), self.inputs.head_chars)
            return iter([(source.name, {"path": source.name, "text": text})])
        if self.inputs.format == "jsonl":
            return _json_lines(source, self.line_bytes)
        return _csv_rows(source)


def find(inputs: InputFiles, folder: Path, line_bytes: int) -> tuple[FileItems, list[tuple[int, str]]]:
    """The files that the patterns match, sorted by path, each once; and for each pattern without any, why."""
    problems: list[tuple[int, str]] = []
    chosen: dict[Path, Source] = {}
    for index, pattern in enumerate(inputs.files):
        matches = [name for name in sorted(expand(pattern, folder)) if (folder / name).is_file()]
        if not matches:
            kind = (
                "is a directory: name its files, as in"
                if (folder / pattern).is_dir()
                else "matches no file in"
            )
            hint = f"{pattern.rstrip('/')}/*" if (folder / pattern).is_dir() else str(folder.absolute())
            problems.append((index, f"{pattern!r} {kind} {hint}"))
        for name in matches:
            source = Source(folder / name, Path(name).as_posix(), index)
            chosen.setdefault(source.path.resolve(), source)
    in_order = tuple(sorted(chosen.values(), key=lambda source: (source.name, source.pattern)))
    return FileItems(in_order, inputs, line_bytes), problems


def expand(pattern: str, folder: Path) -> list[str]:
    """The paths a pattern names, from the folder; ``**`` goes through folders."""
    if (folder / pattern).is_file():  # a name with brackets in it is a name first
        return [pattern]
    return glob.glob(pattern, root_dir=folder, recursive=True)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise Unusable(f"cannot be read ({exc.strerror}): check its permissions") from exc
    try:
        if b"\0" in data:
            raise Unusable(BINARY)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise Unusable(f"is no text in UTF-8 (line {line}): convert it, or leave it out") from exc


def head(text: str, most: int | None) -> str:
    """The first characters, cut after a line's end if there is one among them."""
    if most is None or len(text) <= most:
        return text
    return text[: text.rfind("\n", 0, most) + 1] or text[:most]


def _json_lines(source: Source, most: int) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_lines(source.path, "\n", most), start=1):
        if not line.strip():
            continue
        try:
            yield f"{source.name}:{number}", json.loads(line)
        except ValueError as exc:
            reason = exc.msg if isinstance(exc, json.JSONDecodeError) else str(exc)
            raise Unusable(f"line {number} is no JSON ({reason}): jsonl has one value a line") from exc


def _csv_rows(source: Source) -> Iterator[tuple[str, Any]]:
    reader = csv.reader(_lines(source.path, "", CSV_LINE), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header) or "" in header:
            raise Unusable("has a header with an empty or repeated column name: name each column once")
        for row in filter(None, reader):
            if len(row) != len(header):
                raise Unusable(
                    f"line {reader.line_num} has {len(row)} columns, the header {len(header)}: mend that line"
                )
            yield f"{source.name}:{reader.line_num}", dict(zip(header, row, strict=True))
    except csv.Error as exc:
        raise Unusable(f"line {reader.line_num} is no CSV ({exc})") from exc


def _lines(path: Path, newline: str, most: int) -> Iterator[str]:
    """Lines of a text, each with its end; one at a time in memory."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            number = 0
            while line := file.readline(most):
                number += 1
                if "\0" in line:
                    raise Unusable(BINARY)
                if len(line) == most and not line.endswith("\n"):
                    raise Unusable(f"line {number} has more than {most:,} characters: split it")
                yield line
    except OSError as exc:
        raise Unusable(f"cannot be read ({exc.strerror}): check its permissions") from exc
    except UnicodeDecodeError as exc:
        raise Unusable(
            f"is no text in UTF-8 (line {_undecodable(path)}): convert it, or leave it out"
        ) from exc


def _undecodable(path: Path) -> int:
    """The first line that is no UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def problem_of(item: Any, max_input_bytes: int) -> str:
    """Why an item cannot be sent, or ""."""
    try:
        size = len(json.dumps(item, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    except (TypeError, ValueError) as exc:
        return f"is no JSON value ({exc})"
    if size > max_input_bytes:
        return (
            f"has {size:,} bytes, over the limit of {max_input_bytes:,}: "
            "use head_chars, split it, or raise CHIMERA_MAX_INPUT_BYTES"
        )
    return ""
