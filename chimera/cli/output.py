"""What commands print: answers on stdout, as text or JSON; everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from chimera.cli.exits import Exit
from chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from chimera.client.listing import Listing

T = TypeVar("T")


class Format(StrEnum):
    """How an answer is written."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[
    Format, typer.Option("-o", "--output", help="text for people, json for programs.", show_default=True)
]
Url = Annotated[
    str, typer.Option("--url", help="The hub's address; else CHIMERA_URL, else the local fleet's.")
]
Key = Annotated[
    str,
    typer.Option(
        "--api-key-file",
        help="A file with the tenant's key; else CHIMERA_API_KEY, else the local fleet's.",
        metavar="FILE",
    ),
]


def group(name: str, meaning: str) -> typer.Typer:
    """The commands of one noun."""
    return typer.Typer(name=name, help=meaning, no_args_is_help=True, rich_markup_mode=None)


def plain(value: Any) -> Any:
    """A view, or views, as what JSON knows."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def document(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def line(value: Any) -> None:
    """One line of NDJSON on stdout, at once."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Text on stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Text beside the answer, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def named(listing: Listing[T]) -> Listing[T]:
    """A list as it is; what had to be left out of it is named on stderr."""
    for one in listing.damaged:
        note(f"{one.id} is left out, for it is damaged: {short(one.detail, 300)}; see docs/store.md, Damaged")
    return listing


def leave(code: Exit) -> NoReturn:
    """End the command with this code."""
    raise typer.Exit(int(code))


def console() -> Console:
    """A rich console on stdout: plain text where that is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns on stdout; the last one is never cut."""
    lines = [tuple(columns), *(tuple(row) for row in rows)]
    widths = [max(len(row[at]) for row in lines) for at in range(len(columns))]
    for row in lines:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say("  ".join(cells).rstrip())


def short(value: Any, most: int = 100) -> str:
    """A value on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def counted(count: int, noun: str) -> str:
    """``3, "task"`` → ``3 tasks``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{'es' if noun.endswith('sh') else 's'}"


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is done to much at once; ends the command when the answer is no.

    Raises:
        ConfigurationError: nobody is there to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question} Nobody is here to ask: say --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
