"""Looks for secrets in every file: keys and tokens by their form, passwords by their name and entropy.

    python bin/leaks.py            exit 1, and name the place, if there is one
    python bin/leaks.py --learn    print what is new, as bin/known_leaks.toml would have it

What only looks like a secret stands in ``bin/known_leaks.toml``: for each file a reason, and the SHA-1 of
each value. A value that is no longer there must leave it. Looked at is what git tracks or would track, as
it is now; not the history.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings
from pydantic import BaseModel, ConfigDict, Field

ROOT = Path(__file__).resolve().parents[1]
KNOWN = "bin/known_leaks.toml"
# Made by a tool from public values: hashes of public files, and of what is known.
SKIPPED = {
    KNOWN,
    "docker/requirements.lock",
    *(f"requirements{of}.lock" for of in ("", "-deploy", "-policy", "-uv")),
}


class Known(BaseModel):
    """What of a file only looks like a secret, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(min_length=10)
    sha1: frozenset[str] = Field(min_length=1)


class Finding(NamedTuple):
    """A value that looks like a secret; its SHA-1, never itself."""

    file: str
    sha1: str
    line: int
    kind: str


def files() -> list[str]:
    """What git tracks or would track, by paths from the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # nosec B607  # where git is varies
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()} - SKIPPED)


def findings() -> list[Finding]:
    """Everything that looks like a secret, in order."""
    with default_settings():
        found = SecretsCollection(root=str(ROOT))
        found.scan_files(*files())
    return sorted({Finding(name, one.secret_hash, one.line_number, one.type) for name, one in found})


def known() -> Mapping[str, Known]:
    """By file."""
    text = (ROOT / KNOWN).read_text(encoding="utf-8")
    return {name: Known.model_validate(entry) for name, entry in tomllib.loads(text).items()}


def main(arguments: list[str]) -> int:
    """Look; the exit code."""
    expected = {(name, sha1) for name, entry in known().items() for sha1 in entry.sha1}
    found = findings()
    strange = [one for one in found if (one.file, one.sha1) not in expected]
    if arguments == ["--learn"]:
        for one in strange:
            print(f'["{one.file}"]  # line {one.line}: {one.kind}\nsha1 = ["{one.sha1}"]')
        return 0
    for one in strange:
        print(f"{one.file}:{one.line}: {one.kind}", file=sys.stderr)
    if strange:
        print(
            "a secret that was committed is no longer one: revoke it, then remove it. "
            f"What is none gets an entry with a reason in {KNOWN} (python bin/leaks.py --learn)",
            file=sys.stderr,
        )
    gone = sorted(expected - {(one.file, one.sha1) for one in found})
    for name, sha1 in gone:
        print(f"{KNOWN}: {sha1} is no longer in {name}: take it out", file=sys.stderr)
    return 1 if strange or gone else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
