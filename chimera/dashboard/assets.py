"""What the dashboard's pages load beside themselves: style, scripts, libraries; read once."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, by the ends of names; the rest (licences, notes) is only shipped."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file.

    Attributes:
        packed: the same, gzipped.
        tag: of its content.
    """

    body: bytes
    packed: bytes
    media_type: str
    tag: str


@dataclass(frozen=True, slots=True)
class Assets:
    """All of them.

    Attributes:
        version: of all their contents, which their addresses carry: so they may be kept for good. One for
            all, so that one file may name another beside it.
        by_path: ``chimera.css``, ``vendor/htmx/htmx.min.js`` …
    """

    version: str
    by_path: Mapping[str, Asset]

    def address(self, path: str) -> str:
        """Where a file is served.

        Raises:
            KeyError: there is none.
        """
        if path not in self.by_path:
            raise KeyError(f"there is no {path} in chimera/dashboard/static")
        return f"/dashboard/static/{self.version}/{path}"


@cache
def assets() -> Assets:
    """Those of this version of Chimera."""
    found, whole = {}, hashlib.sha256()
    for path, source in sorted(_walk(files("chimera.dashboard") / "static", "")):
        end = path[path.rfind(".") :]
        if end in TYPES:
            body = source.read_bytes()
            whole.update(f"{path}\0{len(body)}\0".encode() + body)
            tag = hashlib.sha256(body).hexdigest()[:20]
            found[path] = Asset(body, gzip.compress(body, mtime=0), TYPES[end], tag)
    return Assets(whole.hexdigest()[:16], found)


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for one in folder.iterdir():
        if one.is_dir():
            yield from _walk(one, f"{prefix}{one.name}/")
        else:
            yield f"{prefix}{one.name}", one
