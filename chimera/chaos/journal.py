"""Witnesses outside Redis: lines of JSON in files, on disk before anything else happens."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class Journal:
    """An append-only file of one witness. A last line that a kill cut off is taken out."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            written = path.read_bytes()
            os.truncate(path, written.rfind(b"\n") + 1)
        self._file = path.open("ab", buffering=0)

    def write(self, **fields: Any) -> None:
        """One line with the time (UNIX seconds), durable when this returns."""
        self._file.write(json.dumps({"at": time.time(), **fields}).encode() + b"\n")
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Twice is fine."""
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last one that was cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]
