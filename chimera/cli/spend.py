"""`chimera spend`: what is spent and left, what it went to, what was refused, whether the books are right."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import books, output
from chimera.cli.hub import ask
from chimera.cli.instant import instant
from chimera.cli.output import Format, Key, Output, Url
from chimera.cli.store import at_base
from chimera.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from chimera.core.report import FlagView, LevelView, ReportView, RowView
    from chimera.core.usage import By
    from chimera.runtime.base import Base

BAR = 24
"""Characters of the longest bar."""
SPARKS = "▁▂▃▄▅▆▇█"

# No `help`: it would stand in place of the callback's, which has the examples.
app = typer.Typer(name="spend", short_help="Money: reports, audit, flags.", rich_markup_mode=None)


class Shape(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


@app.callback(invoke_without_command=True)
def spend(
    ctx: typer.Context,
    by: Annotated[
        str, typer.Option(help="tenant, mission, agent, model, day; several joined by commas: day,model.")
    ] = "model",
    since: Annotated[str, typer.Option(help="A day, an instant (UTC), or a span back: 7d, 12h.")] = "",
    until: Annotated[str, typer.Option(help="The same; not in it. Now, unless given.")] = "",
    mission: Annotated[str, typer.Option(help="Of this mission alone.")] = "",
    csv: Annotated[bool, typer.Option("--csv", help="The rows as CSV; as -o csv.")] = False,
    output_format: Annotated[
        Shape, typer.Option("-o", "--output", help="text for people, json and csv for programs.")
    ] = Shape.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """What money went to, how fast it goes, every limit and how it stands.

    By tenant it is the operator's: it asks Redis, and tells of all tenants.

    \b
    Examples:
      chimera spend
      chimera spend --by day,model --since 7d
      chimera spend --mission MISSION --by agent --csv
      chimera spend --by tenant --since 2026-11-01 -o json
    """
    if ctx.invoked_subcommand is not None:
        return
    from chimera.core.usage import By

    try:
        cuts = tuple(By(name.strip()) for name in by.split(",") if name.strip())
    except ValueError as exc:
        raise ConfigurationError(f"--by: {exc}: rows are told apart by {', '.join(By)}") from exc
    now = datetime.now(UTC)
    fleet: list[LevelView] = []
    begin, end = instant(since, now, "--since"), instant(until, now, "--until")
    if By.TENANT in cuts:
        reports, fleet = of_all(cuts, begin, end, mission)
    else:
        reports = [
            ask(
                url,
                api_key_file,
                lambda client: client.spend_report(by=cuts, since=begin, until=end, mission_id=mission),
            )
        ]
    rows = [row for one in reports for row in one.rows]
    if csv or output_format is Shape.CSV:
        from chimera.core.report import as_csv

        sys.stdout.writelines(as_csv(rows, cuts))
    elif output_format is Shape.JSON:
        all_of_it = {"fleet": output.plain(fleet), "tenants": output.plain(reports)}
        output.document(all_of_it if By.TENANT in cuts else reports[0])
    else:
        show_levels(fleet, now)
        for one in reports:
            show(one, titled=len(reports) > 1)


def of_all(
    cuts: tuple[By, ...], since: datetime | None, until: datetime | None, mission: str
) -> tuple[list[ReportView], list[LevelView]]:
    """A report of every tenant (of a mission: of those that have it), from the store; and the limits over all
    of them."""
    from chimera.errors import NotFound
    from chimera.runtime.spending import Question, fleet_levels, report

    async def everybody(base: Base) -> tuple[list[ReportView], list[LevelView]]:
        question = Question(by=cuts, since=since, until=until, mission_id=mission)
        reports = []
        for tenant in await base.tenants.names():
            try:
                reports.append(await report(base, tenant, question))
            except NotFound:  # it is another's
                continue
        if mission and not reports:
            raise NotFound(f"no tenant has a mission {mission!r}")
        return reports, await fleet_levels(base)

    return at_base(everybody)


def show(one: ReportView, *, titled: bool) -> None:
    """A report for people."""
    from chimera.core.money import usd

    if titled:
        output.say(f"tenant {one.tenant}")
    span = f"{one.since:%Y-%m-%d %H:%MZ} to {one.until:%Y-%m-%d %H:%MZ}"
    about = f" on mission {one.mission_id}" if one.mission_id else ""
    output.say(f"{usd(one.total.cost_microusd)} spent{about}, {span}; {usd(one.held_microusd)} held now")
    show_rows(one)
    if one.levels:
        output.say()
        show_levels(one.levels, one.at)
    if one.missions_left_out:
        output.say(f"budgets of {one.missions_left_out} more open missions: `chimera mission list`")
    output.say()
    for pace, what in ((one.pace_hour, "the last hour"), (one.pace_day, "the last day")):
        if pace is not None:
            output.say(
                f"burn rate    {usd(pace.microusd_per_h)} an hour over {what} ({pace.hours:.1f} h of data)"
            )
    if one.year is not None:
        year = one.year
        output.say(
            f"a year       {usd(year.likely_microusd)} if it goes on so, {usd(year.low_microusd)} to "
            f"{usd(year.high_microusd)}: by {one.year_note}"
        )
    else:
        output.say(f"a year       not told: {one.year_note}")
    if one.workers is not None:
        told = one.workers
        output.say(
            f"workers      {told.hours:.2f} hours at {usd(told.price_microusd_per_h)}: "
            f"{usd(told.cost_microusd)}, "
            f"in no limit and not in the above; {told.rests_on}"
        )
    output.say(f"rests on     {one.events:,} entries of the flight recorder; the limits on the ledger")
    if one.flags:
        output.say()
        show_flags(one.flags)


def show_rows(one: ReportView) -> None:
    """What it went to, with bars on a terminal."""
    from chimera.core.money import usd
    from chimera.core.usage import By

    if not one.rows:
        return output.say("nothing was charged in this span")
    most = max(row.cost_microusd for row in one.rows)
    bars = sys.stdout.isatty()

    def cells(row: RowView) -> tuple[str, ...]:
        bar = "█" * round(BAR * max(0, row.cost_microusd) / most) if bars and most > 0 else ""
        return (
            *(row.keys[key] for key in one.by),
            usd(row.cost_microusd),
            f"{row.calls:,}",
            f"{row.input_tokens:,}",
            f"{row.output_tokens:,}",
            f"{row.refused:,}",
            *((bar,) if bars else ()),
        )

    titles = (*(key.upper() for key in one.by), "COST", "CALLS", "TOKENS IN", "OUT", "REFUSED")
    output.table((*titles, "") if bars else titles, [cells(row) for row in one.rows])
    if bars and one.by == (By.DAY,) and len(one.rows) > 1:
        output.say(sparkline([row.cost_microusd for row in one.rows]))
    if one.folded:
        output.say(f"{one.folded:,} charges are in the row (others): ask for less at once")
    return None


def sparkline(values: Sequence[int]) -> str:
    """Values as a line of blocks, the greatest the highest."""
    most = max(*values, 1)
    return "".join(SPARKS[min(len(SPARKS) - 1, max(0, value) * len(SPARKS) // most)] for value in values)


def show_levels(levels: Sequence[LevelView], now: datetime) -> None:
    """Limits for people; nothing where there is none."""
    if levels:
        rows = [_level(level, now) for level in levels]
        output.table(("LIMIT", "OF", "SPENT", "HELD", "LEFT", "RESETS", "NOTHING LEFT"), rows)


def _level(level: LevelView, now: datetime) -> tuple[str, ...]:
    from chimera.core.money import usd

    if level.cap_at is not None:
        cap = "now" if level.left_microusd == 0 else f"in {lasting(level.cap_at - now)}"
    else:
        cap = "not before" if level.microusd_per_h is not None else "-"
    return (
        f"{level.level} {level.mission_id}".strip(),
        usd(level.limit_microusd),
        usd(level.settled_microusd),
        usd(level.held_microusd),
        usd(level.left_microusd),
        f"in {lasting(level.resets_at - now)}" if level.resets_at else "never",
        cap,
    )


def lasting(span: timedelta) -> str:
    """``2 d 3 h``, ``5 min``: two units at most."""
    seconds = max(0, round(span.total_seconds()))
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    if days:
        return f"{days:,} d {hours} h" if days < 100 else f"{days:,} d"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def show_flags(flags: Sequence[FlagView]) -> None:
    """Flags for people."""
    from chimera.core.money import usd

    rows = [
        (
            f"{one.level} {one.mission_id}".strip(),
            one.kind,
            f"{one.count:,}",
            f"{one.last_at:%Y-%m-%d %H:%M:%SZ}",
            usd(one.amount_microusd),
            usd(one.fits_microusd),
        )
        for one in flags
    ]
    output.table(("REFUSED BY", "KIND", "TIMES", "LAST", "LARGEST", "WOULD HAVE FIT"), rows)
    output.say("seen: `chimera spend ack LEVEL` (or --mission ID, --all); refused again, it comes back")


@app.command()
def flags(output_format: Output = Format.TEXT, url: Url = "", api_key_file: Key = "") -> None:
    """What limits refused and nobody has acknowledged, the last refused first.

    \b
    Example:
      chimera spend flags
    """
    found = ask(url, api_key_file, lambda client: client.flags())
    if output_format is Format.JSON:
        return output.document(found)
    if not found:
        return output.note("nothing was refused since somebody looked")
    return show_flags(found)


@app.command()
def ack(
    levels: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LEVEL]...", help="As `chimera spend flags` names it, with its missions."),
    ] = None,
    missions: Annotated[
        list[str] | None,
        typer.Option("--mission", metavar="MISSION", help="Of this mission's budget alone; repeatable."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every flag there is.")] = False,
    comment: Annotated[str, typer.Option("--comment", "-m", help="Kept in the flight recorder.")] = "",
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Say that refusals are seen: their flags go, and come back when the same is refused again.

    \b
    Examples:
      chimera spend ack tenant/day -m "known: the import of today"
      chimera spend ack --mission MISSION
      chimera spend ack --all
    """
    from chimera.core.report import OF_MISSION

    names = [*(levels or ()), *(OF_MISSION + one for one in missions or ())]
    if bool(names) == every:
        raise ConfigurationError("say which: one LEVEL or --mission or more, or --all")
    operation = uuid.uuid4().hex
    count = ask(
        url,
        api_key_file,
        lambda client: client.acknowledge(names, every=every, comment=comment, idempotency_key=operation),
    )
    if not count and names:
        raise NotFound(no_such_flag(names, ask(url, api_key_file, lambda client: client.flags())))
    if output_format is Format.JSON:
        return output.document({"acknowledged": count})
    return output.say(f"{output.counted(count, 'flag')} acknowledged")


def no_such_flag(names: Sequence[str], there: Sequence[FlagView]) -> str:
    """That none of these was found, and what there is."""
    has = ", ".join(dict.fromkeys(f"{one.level} {one.mission_id}".strip() for one in there))
    return f"there is no flag of {' or '.join(names)}: " + (
        f"there are {has}" if has else "nothing was refused since somebody looked"
    )


app.command()(books.audit)
