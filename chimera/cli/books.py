"""`chimera spend audit`: whether the books are right, by the flight recorder or by a provider's invoice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.exits import Exit
from chimera.cli.instant import instant
from chimera.cli.output import Format, Output
from chimera.cli.store import at_base
from chimera.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from chimera.core.invoice import Comparison, Difference
    from chimera.runtime.auditing import AuditView
    from chimera.runtime.base import Base


def audit(
    tenants: Annotated[
        list[str] | None, typer.Option("--tenant", help="Of this tenant alone; repeatable.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="INVOICE.CSV", help="Compare charges with a provider's invoice.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=COLUMN",
            help="Where the invoice has id, day, model, amount, currency; repeatable. Else found by name.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="THEIRS=OURS", help="What the invoice calls a model; repeatable."),
    ] = None,
    date_format: Annotated[str, typer.Option(help="Of the invoice's days, as strptime has it.")] = "",
    tolerance: Annotated[str, typer.Option(help="What may differ: USD as 0.01, or a share as 0.5%.")] = "0",
    since: Annotated[str, typer.Option(help="The first day that counts; else the invoice's first.")] = "",
    until: Annotated[str, typer.Option(help="The last day that counts; else the invoice's last.")] = "",
    output_format: Output = Format.TEXT,
) -> None:
    """Whether the books are right: each ledger recomputed from its flight recorder. Exits 1 on any drift.

    With --against, what was charged is compared with a provider's invoice instead: by request where the
    invoice names them, else by day and model. For the operator: it asks Redis and the blob store, no key. It
    changes nothing, and works beside a fleet at work.

    \b
    Examples:
      chimera spend audit
      chimera spend audit --tenant acme -o json
      chimera spend audit --against invoice.csv --tolerance 0.01
      chimera spend audit --against usage.csv --column amount=Cost --column day="Usage date"
    """
    if against is not None:
        found = invoiced(
            against,
            tenants,
            columns=pairs(column, "--column", ("id", "day", "model", "amount", "currency")),
            aliases=pairs(model, "--model"),
            date_format=date_format,
            tolerance=tolerance,
            days=(since, until),
        )
        if output_format is Format.JSON:
            output.document(found)
        else:
            show_comparison(found)
        output.leave(Exit.COMPLETED if found.within else Exit.FAILED)
    audits = audited(tenants)
    if output_format is Format.JSON:
        output.document(audits)
    else:
        for one in audits:
            show_audit(one)
        if not audits:
            output.note("there is no tenant")
    output.leave(Exit.COMPLETED if all(one.sound for one in audits) else Exit.FAILED)


def pairs(given: Sequence[str] | None, option: str, known: Sequence[str] = ()) -> dict[str, str]:
    """``("amount=Cost",)`` → a mapping. Raises ConfigurationError."""
    found = {}
    for one in given or ():
        name, sign, value = one.partition("=")
        if not (sign and name and value) or (known and name not in known):
            what = f", with one of {', '.join(known)} before the sign" if known else ""
            raise ConfigurationError(f"{option}: {one!r} is no pair: write A=B{what}")
        found[name] = value
    return found


async def _named(base: Base, tenants: Sequence[str] | None) -> list[str]:
    there = await base.tenants.names()
    if unknown := sorted(set(tenants or ()) - set(there)):
        raise ConfigurationError(f"there is no tenant {unknown[0]!r}: `chimera tenant list` shows them")
    return sorted(set(tenants)) if tenants else there


def audited(tenants: Sequence[str] | None) -> list[AuditView]:
    """The audit of these tenants, or of all."""
    from chimera.runtime.auditing import audit as audit_one

    async def everybody(base: Base) -> list[AuditView]:
        return [await audit_one(base.of(one), one) for one in await _named(base, tenants)]

    return at_base(everybody)


def invoiced(
    path: Path,
    tenants: Sequence[str] | None,
    *,
    columns: dict[str, str],
    aliases: dict[str, str],
    date_format: str,
    tolerance: str,
    days: tuple[str, str],
) -> Comparison:
    """An invoice compared with what these tenants, or all, were charged."""
    from chimera.core.invoice import Comparing, Tolerance, read
    from chimera.runtime.auditing import compare_charges

    now = datetime.now(UTC)
    first, last = instant(days[0], now, "--since"), instant(days[1], now, "--until")
    try:
        comparing = Comparing(Tolerance.parse(tolerance), first and first.date(), last and last.date())
    except ValueError as exc:
        raise ConfigurationError(f"--tolerance: {exc}") from exc
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            comparing.invoiced(read(lines, columns, aliases=aliases, date_format=date_format))
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read ({exc.strerror}): check the path") from exc
    except InvalidRequest as exc:
        raise InvalidRequest(f"{path}: {exc}") from exc

    async def compare(base: Base) -> Comparison:
        await compare_charges([base.of(one) for one in await _named(base, tenants)], comparing)
        return comparing.result()

    return at_base(compare)


def show_audit(one: AuditView) -> None:
    """An audit for people."""
    from chimera.core.money import usd

    output.say(
        f"{one.tenant}: {one.checked:,} figures of the ledger, {one.entries:,} entries about money, up to "
        "entry "
        f"{one.seq:,}: {'no drift' if one.sound else f'{len(one.drifts)} differ'}"
    )
    for drift in one.drifts:
        output.say(f"  {drift}")
    for what in one.wrong:
        output.say(f"  {what}")
    if one.lost:
        output.say(
            f"  the store lost {one.lost:,} archived entries in restarts, charges of "
            f"{usd(one.lost_microusd)} among "
            "them: spent, and in no limit"
        )


def show_comparison(found: Comparison) -> None:
    """A comparison with an invoice for people."""
    span = f", {found.since} to {found.until}" if found.since else ""
    output.say(
        f"by {found.by}{span}: {found.lines:,} lines, {found.charges:,} charges, {found.matched:,} agree"
    )
    output.say(f"invoice ${found.invoice_usd:,}, ledger ${found.ledger_usd:,}")
    for title, some in (
        ("only on the invoice", found.only_invoice),
        ("only in the ledger", found.only_ledger),
        ("differs", found.differs),
    ):
        for one in some:
            output.say(f"  {title}: {one.what}{_sides(one)}")
    if found.more:
        output.say(f"  and {found.more:,} more")
    if found.without_id_usd:
        output.say(
            f"${found.without_id_usd:,} was charged without a request's id: such calls never said what they "
            "cost"
        )
    output.say("agrees within the tolerance" if found.within else "does not agree")


def _sides(one: Difference) -> str:
    parts = []
    if one.invoice_usd is not None:
        lines = ", ".join(map(str, one.lines))
        parts.append(f"${one.invoice_usd:,} invoiced (line {lines})")
    if one.ledger_usd is not None:
        parts.append(f"${one.ledger_usd:,} charged")
    return f": {', '.join(parts)}" if parts else ""
