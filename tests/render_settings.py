"""The tables of docs/configuration.md, from the settings: `python -m tests.render_docs` writes them."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from chimera.cli.env import shown, type_name
from chimera.settings import PREFIX, Settings, is_secret

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
BETWEEN = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)
GROUP = re.compile(r"    # (\S.*)")
SIGNS = {Ge: ("ge", "≥ {}"), Gt: ("gt", "> {}"), Le: ("le", "≤ {}"), Lt: ("lt", "< {}")}


def rendered(page: str) -> str:
    """The page with its tables made anew."""
    return BETWEEN.sub(lambda _: tables(), page)


def tables() -> str:
    """A table for each group, as the comments in the class part them."""
    lines: list[str] = []
    for group, names in groups().items():
        lines += [
            f"## {group}",
            "",
            "| Variable | Type | Default | Bounds | Meaning |",
            "|---|---|---|---|---|",
        ]
        lines += [row(name, Settings.model_fields[name]) for name in names]
        lines.append("")
    return "\n".join(lines)


def groups() -> dict[str, list[str]]:
    """Heading → the fields below it, in the order of the source.

    Raises:
        AssertionError: a field stands above the first heading.
    """
    source = inspect.getsource(Settings)
    fields = {
        node.lineno: node.target.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    found: dict[str, list[str]] = {}
    heading = ""
    for number, line in enumerate(source.splitlines(), start=1):
        if comment := GROUP.fullmatch(line):
            heading = comment[1]
        elif (name := fields.get(number, "")) in Settings.model_fields:
            assert heading, f"{name} stands above the first heading"
            found.setdefault(heading, []).append(name)
    return found


def row(name: str, field: FieldInfo) -> str:
    """One setting."""
    variable = f"{PREFIX}{name.upper()}"
    default = shown(field.default)
    cells = (
        f"`{variable}`" + (f", or a file: `{variable}_FILE`" if is_secret(field) else ""),
        " or ".join(f"`{one}`" for one in type_name(field.annotation).split(" | "))
        if " | " in type_name(field.annotation)
        else type_name(field.annotation),
        f"`{default}`" if default else "",
        ", ".join(bounds(field)),
        (field.description or "").replace("|", "\\|"),
    )
    return f"| {' | '.join(cells)} |"


def bounds(field: FieldInfo) -> list[str]:
    """What a value has to keep to."""
    said = []
    for rule in field.metadata:
        if isinstance(rule, MinLen | MaxLen):
            least = isinstance(rule, MinLen)
            length = rule.min_length if isinstance(rule, MinLen) else rule.max_length
            said.append(f"{'≥' if least else '≤'} {length:,} characters")
        elif sign := SIGNS.get(type(rule)):
            said.append(sign[1].format(f"{getattr(rule, sign[0]):,}"))
    return said
