"""What a make target comes to: the steps of the gate that it runs, else itself."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def recipes(text: str) -> dict[str, list[str]]:
    """Target → the lines of its recipe."""
    found: dict[str, list[str]] = {}
    for target, body in re.findall(r"^([a-z][a-z-]*):[^\n]*\n((?:\t[^\n]*\n)*)", text, re.MULTILINE):
        found[target] = [line.strip("\t@") for line in body.splitlines()]
    return found


RECIPES = recipes((ROOT / "Makefile").read_text(encoding="utf-8"))


def listed() -> dict[str, list[str]]:
    """`check`, `test`, `alone` → the steps of the gate, as the gate itself says."""
    said = subprocess.run([ROOT / "bin/gate", "list"], capture_output=True, text=True, check=True, timeout=30)
    rows = (line.partition(": ") for line in said.stdout.splitlines())
    return {name: steps.split() for name, _, steps in rows}


def gates(target: str) -> set[str]:
    """The steps of the gate that a make target runs; `make NAME` itself where it is none of the gate."""
    groups, found = listed(), set[str]()
    for line in RECIPES[target]:
        if called := re.search(r"bin/gate (.+)", line):
            for word in shlex.split(called[1]):
                found |= set(groups.get(word, [word]))
        else:
            found.add(f"make {target}")
    return found
