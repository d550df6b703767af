"""`chimera env`: every setting, from the one class that reads them."""

from __future__ import annotations

import types
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from chimera.cli import output
from chimera.cli.output import Format, Output


def env(
    output_format: Output = Format.TEXT,
    example: Annotated[
        bool, typer.Option("--example", help="Print .env.example: every variable with its default.")
    ] = False,
) -> None:
    """Every setting: name, type, default and meaning.

    The environment is the only configuration. A secret may come from a file: CHIMERA_X_FILE names it.

    \b
    Examples:
      chimera env
      chimera env -o json
      chimera env --example > .env
    """
    rows = settings_table()
    if example:
        output.say(example_text(rows).rstrip("\n"))
    elif output_format is Format.JSON:
        output.document(rows)
    else:
        for row in rows:
            default = f" = {row['default']}" if row["default"] else ""
            output.say(f"{row['name']}{default}  ({row['type']}{', secret' if row['secret'] else ''})")
            output.say(f"    {row['description']}")


def settings_table() -> list[dict[str, Any]]:
    """Each setting as name, type, default, secret, file (variable that names a file), description."""
    from chimera.settings import PREFIX, Settings, is_secret

    rows = []
    for name, field in Settings.model_fields.items():
        variable, secret = f"{PREFIX}{name.upper()}", is_secret(field)
        rows.append(
            {
                "name": variable,
                "type": type_name(field.annotation),
                "default": shown(field.default),
                "secret": secret,
                "file": f"{variable}_FILE" if secret else None,
                "description": field.description or "",
            }
        )
    return rows


def type_name(annotation: Any) -> str:
    """A type in words."""
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        return " or ".join(type_name(part) for part in get_args(annotation) if part is not types.NoneType)
    if origin is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(member.value) for member in annotation)
    names = {"str": "text", "SecretStr": "text", "int": "integer", "float": "number", "Path": "path"}
    return names.get(str(annotation.__name__), str(annotation.__name__))


def shown(default: Any) -> str:
    """A default as one writes it; a path under the home directory with ~, so that it suits everybody."""
    if default is None:
        return ""
    if isinstance(default, Path):
        home = Path.home()
        return f"~/{default.relative_to(home)}" if default.is_relative_to(home) else str(default)
    return str(default)


def example_text(rows: list[dict[str, Any]]) -> str:
    """The text of .env.example."""
    head = (
        "# Every setting of Chimera, with its default. Made by `chimera env --example`; do not edit.\n"
        "# Chimera reads the environment only: export these, or load this file with your own tool.\n"
        "# A secret may come from a file instead: CHIMERA_<NAME>_FILE=/run/secrets/name\n"
    )
    return head + "".join(
        f"\n# {row['description']} ({row['type']}{', secret' if row['secret'] else ''})\n"
        f"#{row['name']}={row['default']}\n"
        for row in rows
    )
