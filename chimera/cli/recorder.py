"""`chimera recorder`: the flight recorder, shown, followed, exported, replayed, verified."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output, sinks
from chimera.cli.exits import Exit
from chimera.cli.hub import ask, connect, locate, run
from chimera.cli.instant import instant
from chimera.cli.output import Format, Key, Output, Url
from chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chimera.client import Client
    from chimera.core.chainviews import ChainView, Mark
    from chimera.core.event import Event
    from chimera.core.timeline import Moment, Timeline
    from chimera.runtime.base import Base

app = output.group("recorder", "The flight recorder: show, tail, export, replay, verify, sinks, dead.")
app.command()(sinks.sinks)
app.add_typer(sinks.app)

Tenant = Annotated[str, typer.Option("--tenant", help="Whose, for a key of the fleet.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Kinds that begin so: `task.`, `spend.settled`; repeatable."),
]
Since = Annotated[str, typer.Option(help="From then on: 2026-11-28, 2026-11-28T10:00 (UTC), 7d, 12h.")]
Until = Annotated[str, typer.Option(help="Before then; the same.")]


@app.callback()
def recorder() -> None:
    """The flight recorder: every transition, one entry, gap-free, hash-chained.

    \b
    Examples:
      chimera recorder show MISSION
      chimera recorder verify
    """


@app.command()
def show(
    subject: Annotated[str, typer.Argument(metavar="[MISSION|TASK]")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the mission is over.")] = False,
    kinds: Kinds = None,
    since: Since = "",
    until: Until = "",
    tenant: Tenant = "",
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Entries, oldest first: of a mission, of a task, or of the whole tenant; with -o json one a line.

    Entries are numbered over all missions of the tenant: numbers that are left out are other missions'.

    \b
    Examples:
      chimera recorder show MISSION
      chimera recorder show MISSION.7 --kind task. --kind model.
      chimera recorder show MISSION -f -o json
      chimera recorder show --since 1h --kind brake.
    """
    now = datetime.now(UTC)
    first, last = instant(since, now, "--since"), instant(until, now, "--until")
    narrowed = bool(kinds or first or last or tenant or "." in subject or not subject)
    if follow and narrowed:
        raise ConfigurationError("--follow shows a whole mission until its end: `recorder tail` follows more")

    def entries(client: Client) -> AsyncGenerator[tuple[str, Event], None]:
        if not narrowed:
            return client.events(subject, follow=follow)
        mission, task = ("", subject) if "." in subject else (subject, "")
        return client.recorder(
            tenant=tenant, kinds=kinds or (), mission_id=mission, task_id=task, since=first, until=last
        )

    async def read() -> None:
        seq, gaps = 0, False
        async with connect(locate(url, api_key_file)) as client, aclosing(entries(client)) as stream:
            async for _, event in stream:
                gaps = gaps or 0 < seq < event.seq - 1
                seq = event.seq
                _show(event, output_format)
        if gaps and not narrowed and output_format is Format.TEXT:
            output.note("the numbers in between are those of the tenant's other missions")

    run(read())


@app.command()
def tail(
    kinds: Kinds = None,
    mission: Annotated[str, typer.Option("--mission", help="Of this mission alone.")] = "",
    tenant: Tenant = "",
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """The tenant's events as they happen, until you end it; taken up again when the connection breaks.

    \b
    Examples:
      chimera recorder tail
      chimera recorder tail --kind spend. --kind brake. -o json
    """

    async def read() -> None:
        async with connect(locate(url, api_key_file)) as client:
            stream = client.recorder(
                tenant=tenant, kinds=kinds or (), mission_id=mission, live=True, follow=True
            )
            async with aclosing(stream):
                async for _, event in stream:
                    _show(event, output_format)

    run(read())


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to; `-` is stdout.")] = Path("-"),
    kinds: Kinds = None,
    mission: Annotated[str, typer.Option("--mission", help="Of this mission alone.")] = "",
    since: Since = "",
    until: Until = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a file that was cut short.")] = False,
    verified: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Follow the chain, for the manifest's anchor.")
    ] = True,
    tenant: Tenant = "",
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Write events as NDJSON, an event a line; a FILE that ends with .zst is compressed.

    Beside a file stands FILE.manifest.json: what it holds, its SHA-256, where to go on, and the anchor of the
    recorder's chain. A file that is there is not overwritten.

    \b
    Examples:
      chimera recorder export --to events.ndjson.zst
      chimera recorder export --to events.ndjson.zst --resume
      chimera recorder export --since 1d --kind task. | jq .kind
    """
    from chimera.cli.exporting import Export, Manifest

    now = datetime.now(UTC)
    first, last = instant(since, now, "--since"), instant(until, now, "--until")
    if str(to) == "-" and resume:
        raise ConfigurationError("--resume goes on with a file: name it with --to")

    async def write() -> Manifest:
        async with connect(locate(url, api_key_file)) as client:
            with Export.open(to, resume=resume) as file:
                stream = client.recorder(
                    tenant=tenant,
                    kinds=kinds or (),
                    mission_id=mission,
                    since=first,
                    until=last,
                    after=file.manifest.after or None,
                )
                async with aclosing(stream):
                    async for position, event in stream:
                        file.write(position, event)
                file.end((await client.verify(tenant=tenant)) if verified and str(to) != "-" else None)
                return file.manifest

    manifest = run(write())
    if str(to) == "-":
        return None
    if output_format is Format.JSON:
        return output.document(manifest)
    return output.say(f"{output.counted(manifest.events, 'event')} in {to}")


@app.command()
def replay(
    mission: Annotated[str, typer.Argument(metavar="MISSION")],
    at: Annotated[str, typer.Option(help="An instant, or an event as EPOCH/SEQ; else the newest.")] = "",
    step: Annotated[bool, typer.Option("--step", help="Every event, and what stood behind it.")] = False,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """A mission's state at an instant or behind an event: its tasks, its money, as its events tell them.

    \b
    Examples:
      chimera recorder replay MISSION --at 10m
      chimera recorder replay MISSION --at 1/4711 -o json
      chimera recorder replay MISSION --step
    """
    from chimera.core.timeline import Timeline

    where = _where(at, datetime.now(UTC)) if at else None

    async def read(client: Client) -> Timeline:
        line = Timeline()
        async with aclosing(client.events(mission, follow=False)) as stream:
            async for _, event in stream:
                line.take(event)
        return line

    line = ask(url, api_key_file, read)
    if step:
        last = line.at(where).index if where is not None else len(line)
        for index in range(1, last + 1):
            moment = line.moment(index, tasks=False)
            if output_format is Format.JSON:
                output.line(_document(moment, tasks=False))
            else:
                output.say(_told(moment))
        return None
    moment = line.last if where is None else line.at(where)
    if output_format is Format.JSON:
        return output.document(_document(moment))
    return _show_moment(mission, moment)


@app.command()
def verify(
    tenants: Annotated[
        list[str] | None,
        typer.Option("--tenant", help="Of this tenant alone, also of one that was removed; repeatable."),
    ] = None,
    since: Annotated[
        tuple[str, str] | None,
        typer.Option("--from", metavar="EPOCH/SEQ HASH", help="History must lead through this anchor."),
    ] = None,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Whether the recorder is whole: its hash chain from the first event to the newest. Exits 1 if it is not.

    It follows archive and stream, and names the first place where an event is missing, was put in or edited.
    Where the fleet's Redis can be asked (the operator) it is; else the hub, with a key. What it prints as
    anchor, noted elsewhere and given with --from later, shows that nobody wrote all of it anew.

    \b
    Examples:
      chimera recorder verify
      chimera recorder verify --tenant acme -o json
      chimera recorder verify --tenant acme --from 1/4711 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c...
    """
    from chimera.core.chainviews import Mark

    mark = Mark.parse(*since) if since else None
    if mark and len(tenants or ()) > 1:
        raise ConfigurationError("--from is an anchor of one tenant's: name one")
    found = _verified(tenants, mark, url, api_key_file)
    if output_format is Format.JSON:
        output.document(found)
    else:
        for one in found:
            _show_chain(one)
        if not found:
            output.note("there is no tenant")
    output.leave(Exit.COMPLETED if all(one.sound for one in found) else Exit.FAILED)


def _verified(tenants: list[str] | None, mark: Mark | None, url: str, api_key_file: str) -> list[ChainView]:
    from chimera import settings
    from chimera.cli.store import at_base, of_local_fleet

    environment = settings.load()
    if not (url or api_key_file) and (environment.redis_url is not None or of_local_fleet(environment)):
        return at_base(lambda base: _followed(base, tenants, mark))

    async def through_the_hub(client: Client) -> list[ChainView]:
        return [await client.verify(tenant=one, since=mark) for one in tenants or [""]]

    return ask(url, api_key_file, through_the_hub)


async def _followed(base: Base, tenants: list[str] | None, mark: Mark | None) -> list[ChainView]:
    from chimera.cli.exporting import Ticker
    from chimera.core.tenant import check_name
    from chimera.store.chain import verify as follow

    names = [check_name(one) for one in tenants] if tenants else await base.tenants.names()
    found = []
    for name in names:
        ticker = Ticker(f"{name}: {{:,}} events followed")
        found.append(await follow(base.redis, name, base.of(name).archive, since=mark, progress=ticker.tell))
    return found


def _show(event: Event, output_format: Format) -> None:
    if output_format is Format.JSON:
        output.line(event)
    else:
        output.say(told(event))


def told(event: Event) -> str:
    """One entry on one line: number, time (UTC), kind, task, details, author."""
    details = " ".join(f"{name}={output.short(value, 80)}" for name, value in event.details.items())
    task = event.task_id.removeprefix(f"{event.mission_id}.")
    time = event.at.strftime("%H:%M:%S.%f")[:-3]
    parts = (f"{event.seq:>6}", time, f"{event.kind:<22}", f"{task:<8}", details, f"({event.by})")
    return "  ".join(part for part in parts if part.strip())


def _where(text: str, now: datetime) -> tuple[int, int] | datetime:
    epoch, slash, seq = text.partition("/")
    if slash and epoch.isdecimal() and seq.isdecimal() and len(text) < 30:
        return int(epoch), int(seq)
    found = instant(text, now, "--at")
    assert found is not None  # it is not empty
    return found


def _told(moment: Moment) -> str:
    from chimera.core.money import usd

    at = moment.at.strftime("%H:%M:%S.%f")[:-3] if moment.at else ""
    counts = " ".join(f"{status}={count}" for status, count in moment.counts.items())
    money = f"settled {usd(moment.settled_microusd)} held {usd(moment.held_microusd)}"
    return (
        f"{moment.epoch}/{moment.seq:<7} {at}  {moment.kind:<22}  {moment.mission.status}  {counts}  {money}"
    )


def _document(moment: Moment, *, tasks: bool = True) -> dict[str, object]:
    from dataclasses import asdict

    found: dict[str, object] = {
        **asdict(moment),
        "at": moment.at.isoformat() if moment.at else None,
        "tasks": {task: one._asdict() for task, one in moment.tasks.items()},
    }
    if not tasks:
        del found["tasks"]
    return found


def _show_moment(mission: str, moment: Moment) -> None:
    from chimera.core.money import usd

    if moment.at is None:
        return output.say(f"{mission} was not there yet")
    output.say(f"{mission} behind event {moment.epoch}/{moment.seq} ({moment.kind}), {moment.at.isoformat()}")
    reason = f": {moment.mission.reason}" if moment.mission.reason else ""
    output.say(f"status    {moment.mission.status}{reason}, state version {moment.mission.state_version}")
    output.say(f"tasks     {' '.join(f'{one}={n}' for one, n in moment.counts.items()) or 'none yet'}")
    output.say(f"attempts  {moment.attempts:,}")
    output.say(f"money     {usd(moment.settled_microusd)} settled, {usd(moment.held_microusd)} held")
    rows = [
        (task.removeprefix(f"{mission}."), str(one.status), str(one.attempt), usd(one.settled_microusd))
        for task, one in moment.tasks.items()
    ]
    return output.table(("TASK", "STATUS", "ATTEMPT", "SPENT"), rows)


def _show_chain(one: ChainView) -> None:
    said = "whole" if one.sound else "NOT WHOLE"
    output.say(
        f"{one.tenant}: {said}: {output.counted(one.events, 'event')}, {one.archived:,} of them in "
        f"{output.counted(one.segments, 'segment')}, {one.compared:,} compared with the stream"
    )
    for what in one.wrong:
        output.say(f"  {what}")
    if one.anchor is not None:
        output.say(f"  anchor {one.anchor.position} {one.anchor.hash}")
    if one.head is not None and one.head != one.anchor:
        output.say(f"  head   {one.head.position} {one.head.hash} (not archived yet)")
