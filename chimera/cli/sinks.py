"""`chimera recorder sinks` and `dead`: where the recorder goes, and what was not taken. They need no key."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.output import Format, Output
from chimera.cli.store import at_base, operator
from chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from chimera.core.sinkviews import DeadLetter, SinkView
    from chimera.runtime.base import Base

app = output.group("dead", "Events that the MCP server would not take: list, retry, drop.")

Tenant = Annotated[str, typer.Option("--tenant", help="Of this tenant alone.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="EVENT", help="As the list has them.")]
Every = Annotated[bool, typer.Option("--all", help="Every one there is; with --tenant, of that tenant.")]
MOST = 1_000


def sinks(tenant: Tenant = "", output_format: Output = Format.TEXT) -> None:
    """How far each sink of the flight recorder is: the archive, and the MCP server of CHIMERA_MCP_URL.

    \b
    Example:
      chimera recorder sinks
    """

    async def look(base: Base) -> list[SinkView]:
        from chimera.runtime.exporting import sinks as progress

        return await progress(base, await named(base, tenant))

    found = at_base(look)
    if output_format is Format.JSON:
        return output.document(found)
    rows = [
        (
            *(one.tenant, one.sink, f"{one.seq:,}", f"{one.behind:,}", f"{one.dead:,}"),
            output.short(one.trouble, 400),
        )
        for one in found
    ]
    return output.table(("TENANT", "SINK", "EVENTS", "BEHIND", "DEAD", ""), rows)


@app.command("list")
def list_(tenant: Tenant = "", output_format: Output = Format.TEXT) -> None:
    """Events that the MCP server refused each time it was told of them, and what it said last.

    \b
    Example:
      chimera recorder dead list
    """

    async def look(base: Base) -> list[DeadLetter]:
        from chimera.store.exports import Exports

        return [
            letter
            for one in await named(base, tenant, gone=True)
            for letter in await Exports(base.redis, one).dead(MOST)
        ]

    found = at_base(look)
    if output_format is Format.JSON:
        return output.document(found)
    rows = [
        (
            one.id,
            one.kind,
            one.task_id or one.mission_id,
            str(one.tries),
            _said(one),
            output.short(one.reason, 99),
        )
        for one in found
    ]
    return output.table(("EVENT", "KIND", "OF", "TRIES", "", "REASON"), rows)


@app.command()
def retry(
    ids: Ids = None, every: Every = False, tenant: Tenant = "", output_format: Output = Format.TEXT
) -> None:
    """Have dead letters told again, within a second or so.

    \b
    Examples:
      chimera recorder dead retry acme/1/4711
      chimera recorder dead retry --all
    """
    _answer("retry", ids or (), every, tenant, "", output_format)


@app.command()
def drop(
    ids: Ids = None,
    every: Every = False,
    tenant: Tenant = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, in words; kept with the act.")] = "",
    output_format: Output = Format.TEXT,
) -> None:
    """Give dead letters up: the MCP server is never told of these events. They stay in the recorder.

    \b
    Example:
      chimera recorder dead drop acme/1/4711 --reason "the tool has no place for it"
    """
    _answer("drop", ids or (), every, tenant, reason, output_format)


def _answer(
    word: str, ids: Sequence[str], every: bool, tenant: str, reason: str, output_format: Format
) -> None:
    if every == bool(ids):
        raise ConfigurationError(
            f"name events to {word}, or say --all: `chimera recorder dead list` shows them"
        )
    if tenant and ids:
        raise ConfigurationError("an event's id names its tenant: leave --tenant out, or say --all")

    async def say(base: Base) -> int:
        from chimera.store.exports import EVERY, Exports

        of: dict[str, list[str]] = {}
        for one in await named(base, tenant, gone=True) if every else ():
            of[one] = [EVERY]
        for one in ids:
            of.setdefault(one.partition("/")[0], []).append(one)
        count, operation = 0, uuid.uuid4().hex
        for one, some in of.items():
            exports = Exports(base.redis, one)
            count += await exports.answer(word, some, operation, by=operator(), reason=reason)
        return count

    count = at_base(say)
    if output_format is Format.JSON:
        return output.document({"count": count})
    output.say(f"{count:,} will be told again" if word == "retry" else f"{count:,} dropped")
    if count < len(ids):
        output.note("the others are no dead letters, or not any more")
    return None


async def named(base: Base, tenant: str, *, gone: bool = False) -> list[str]:
    """This tenant, or all; and those that were removed and are still told of. Raises NotFound."""
    from chimera.store.removed import Removed

    there = set(await base.tenants.names()) | (
        set((await Removed(base.redis).gone()).acts) if gone else set()
    )
    if tenant and tenant not in there:
        await base.tenants.require(tenant)
    return [tenant] if tenant else sorted(there)


def _said(letter: DeadLetter) -> str:
    return "is told again" if letter.retrying else ""
