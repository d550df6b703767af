"""The table of docs/redis-users.md, from the rights in the code: `python -m tests.render_docs` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from chimera.store.rights import RIGHTS, Rights

USERS = Path(__file__).parents[1] / "docs" / "redis-users.md"
BETWEEN = re.compile(r"(?<=<!-- rights -->\n).*?(?=<!-- /rights -->)", re.DOTALL)


def rendered(page: str) -> str:
    """The page with its table made anew."""
    return BETWEEN.sub(lambda _: table(), page)


def table() -> str:
    """A row for each role: keys by the names of `chimera.store.keys`, ``h:*`` a family of them."""
    lines = ["| Role | Reads | Writes | And besides | Wakes | Hears |", "|---|---|---|---|---|---|"]
    for role, rights in RIGHTS.items():
        cells = (
            f"`{role}`",
            _listed((*rights.reads, *rights.shared_reads)),
            _listed((*rights.writes, *rights.shared_writes)),
            _besides(rights),
            _listed(one.partition(":")[2] for one in rights.wakes),
            _listed(one.partition(":")[2] for one in rights.hears),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _besides(rights: Rights) -> str:
    said = (f"`{command}` of {_listed(names)}" for command, names in (*rights.also, *rights.shared_also))
    return "; ".join(said) or "–"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"
