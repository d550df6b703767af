"""A mission's inputs from files: text, JSON lines, CSV."""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chimera.core.mission import InputFiles


class Unusable(Exception):
    """A file that gives no items; the message says why and what to do."""


@dataclass
class Found:
    """What was read.

    Attributes:
        items: (where it came from, item), in the order of the files' paths.
        problems: (index of the pattern, or None; what is wrong).
    """

    items: list[tuple[str, Any]] = field(default_factory=list)
    problems: list[tuple[int | None, str]] = field(default_factory=list)


def read_files(inputs: InputFiles, folder: Path) -> Found:
    """Items of all files that the patterns match, sorted by path, each file once."""
    found = Found()
    chosen: dict[Path, tuple[str, int]] = {}
    for index, pattern in enumerate(inputs.files):
        matches = [name for name in sorted(expand(pattern, folder)) if (folder / name).is_file()]
        if not matches:
            kind = (
                "is a directory: name its files, as in"
                if (folder / pattern).is_dir()
                else "matches no file in"
            )
            hint = f"{pattern.rstrip('/')}/*" if (folder / pattern).is_dir() else str(folder.absolute())
            found.problems.append((index, f"{pattern!r} {kind} {hint}"))
        for name in matches:
            chosen.setdefault((folder / name).resolve(), (name, index))
    for name, index in sorted(chosen.values()):
        try:
            found.items += read_file(folder / name, Path(name).as_posix(), inputs)
        except Unusable as exc:
            found.problems.append((index, f"{name} {exc}"))
    if not found.items and not found.problems:
        found.problems.append((None, "hold no item: the files are empty"))
    return found


def expand(pattern: str, folder: Path) -> list[str]:
    """The paths a pattern names, from the folder; ``**`` goes through folders."""
    if (folder / pattern).is_file():  # a name with brackets in it is a name first
        return [pattern]
    return glob.glob(pattern, root_dir=folder, recursive=True)


def read_file(path: Path, name: str, inputs: InputFiles) -> list[tuple[str, Any]]:
    """The items of one file, each with where it came from.

    Raises:
        Unusable: it cannot be read, is no text, or does not have its format.
    """
    text = _text(path)
    if inputs.format == "text":
        return [(name, {"path": name, "text": head(text, inputs.head_chars)})]
    if inputs.format == "jsonl":
        return list(_json_lines(text, name))
    return list(_csv_rows(text, name))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise Unusable(f"cannot be read ({exc.strerror}): check its permissions") from exc
    try:
        if b"\0" in data:
            raise Unusable("is a binary file: inputs are text, JSON lines or CSV in UTF-8")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise Unusable(f"is no text in UTF-8 (line {line}): convert it, or leave it out") from exc


def head(text: str, most: int | None) -> str:
    """The first characters, cut after a line's end if there is one among them."""
    if most is None or len(text) <= most:
        return text
    return text[: text.rfind("\n", 0, most) + 1] or text[:most]


def _json_lines(text: str, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{name}:{number}", json.loads(line)
        except ValueError as exc:
            reason = exc.msg if isinstance(exc, json.JSONDecodeError) else str(exc)
            raise Unusable(f"line {number} is no JSON ({reason}): jsonl has one value a line") from exc


def _csv_rows(text: str, name: str) -> Iterator[tuple[str, Any]]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header) or "" in header:
            raise Unusable("has a header with an empty or repeated column name: name each column once")
        for row in filter(None, reader):
            if len(row) != len(header):
                raise Unusable(
                    f"line {reader.line_num} has {len(row)} columns, the header {len(header)}: mend that line"
                )
            yield f"{name}:{reader.line_num}", dict(zip(header, row, strict=True))
    except csv.Error as exc:
        raise Unusable(f"line {reader.line_num} is no CSV ({exc})") from exc


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
