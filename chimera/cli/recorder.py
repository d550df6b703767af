"""`chimera recorder`: the flight recorder."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output, sinks
from chimera.cli.hub import connect, locate, run
from chimera.cli.output import Format, Key, Output, Url

if TYPE_CHECKING:
    from chimera.core.event import Event

app = output.group("recorder", "The flight recorder: show, sinks, dead.")
app.command()(sinks.sinks)
app.add_typer(sinks.app)


@app.callback()
def recorder() -> None:
    """The flight recorder: every transition, one entry, gap-free.

    \b
    Example:
      chimera recorder show MISSION
    """


@app.command()
def show(
    mission_id: Annotated[str, typer.Argument(metavar="MISSION")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the mission is over.")] = False,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """A mission's timeline, oldest first; with -o json one entry a line.

    Entries are numbered over all missions of the tenant: numbers that are left out are other missions'.

    \b
    Examples:
      chimera recorder show MISSION
      chimera recorder show MISSION -f -o json
    """

    async def read() -> None:
        last, gaps = 0, False
        async with connect(locate(url, api_key_file)) as client:
            stream = client.events(mission_id, follow=follow)
            async with aclosing(stream):
                async for _, event in stream:
                    gaps = gaps or 0 < last < event.seq - 1
                    last = event.seq
                    if output_format is Format.JSON:
                        output.line(event)
                    else:
                        output.say(told(event))
        if gaps and output_format is Format.TEXT:
            output.note("the numbers in between are those of the tenant's other missions")

    run(read())


def told(event: Event) -> str:
    """One entry on one line: number, time (UTC), kind, task, details, author."""
    details = " ".join(f"{name}={output.short(value, 80)}" for name, value in event.details.items())
    task = event.task_id.removeprefix(f"{event.mission_id}.")
    time = event.at.strftime("%H:%M:%S.%f")[:-3]
    parts = (f"{event.seq:>6}", time, f"{event.kind:<22}", f"{task:<8}", details, f"({event.by})")
    return "  ".join(part for part in parts if part.strip())
