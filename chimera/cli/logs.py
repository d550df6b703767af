"""`chimera logs`: what all processes of a fleet say, as one log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.exits import Exit
from chimera.cli.output import Format, Output

if TYPE_CHECKING:
    from chimera.serving.local.logfiles import LogFiles
    from chimera.telemetry.record import LogRecord

LEVELS = ("debug", "info", "warning", "error", "critical")
POLL_S = 0.2
"""Files tell nobody that they grow."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which records are asked for: those that are all of this."""

    tenant: str = ""
    mission: str = ""
    task: str = ""
    role: str = ""
    trace: str = ""
    level: str = "debug"

    def takes(self, record: LogRecord) -> bool:
        """Whether it is one of them."""
        mission = record.mission_id or record.task_id.partition(".")[0]
        return (
            LEVELS.index(record.level) >= LEVELS.index(self.level)
            and self.tenant in {"", record.tenant}
            and self.mission in {"", mission}
            and self.task in {"", record.task_id}
            and self.role in {"", record.role}
            and self.trace in {"", record.trace_id}
        )


def logs(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written.")] = False,
    tenant: Annotated[str, typer.Option(help="Lines of this tenant alone.")] = "",
    mission: Annotated[str, typer.Option(help="Of this mission.")] = "",
    task: Annotated[str, typer.Option(help="Of this task.")] = "",
    role: Annotated[
        str,
        typer.Option(help="Of these processes: gateway, orchestrator, judge, governor, worker, job, ray."),
    ] = "",
    trace: Annotated[str, typer.Option(metavar="ID", help="Of this trace.")] = "",
    level: Annotated[str, typer.Option(help="No lower than this: debug, info, warning, error.")] = "debug",
    ray: Annotated[
        Path | None,
        typer.Option(
            "--ray",
            metavar="DIRECTORY",
            help="Of a node of any Ray cluster instead: its --temp-dir, as a rule /tmp/ray.",
        ),
    ] = None,
    output_format: Output = Format.TEXT,
) -> None:
    """What the processes of the local fleet say, as one log; in a container, all that its node's say.

    On a terminal it is text. Elsewhere, and with -o json, each line is a record of docs/log.schema.json; what
    Ray says is made one, as event `line`.

    \b
    Examples:
      chimera logs -f --level warning
      chimera logs --task MISSION.0
      chimera logs -f --ray /tmp/ray
    """
    if level not in LEVELS:
        raise typer.BadParameter(f"{level!r} is none of {', '.join(LEVELS)}", param_hint="--level")
    asked = Asked(tenant, mission, task, role, trace, level)
    files = found(ray)
    write = writer(output_format)
    try:
        show(files.new(), asked, write)
        while follow:
            time.sleep(POLL_S)
            show(files.new(), asked, write)
    except KeyboardInterrupt:
        output.leave(Exit.INTERRUPTED)
    finally:
        files.close()


def found(ray: Path | None) -> LogFiles:
    """The files of the local fleet, or of a Ray node."""
    from chimera import settings
    from chimera.serving.local import logfiles
    from chimera.serving.local.state import StateDir

    if ray is not None:
        return logfiles.LogFiles(logfiles.of_ray(ray))
    return logfiles.LogFiles(logfiles.of_fleet(StateDir(settings.load().state_dir)))


def writer(output_format: Format) -> Callable[[LogRecord], None]:
    """How a record is written to stdout: for eyes on a terminal, as CHIMERA_LOG_FORMAT says; else JSON."""
    from chimera import settings
    from chimera.telemetry.redaction import redact
    from chimera.telemetry.terminal import Painter, coloured

    chosen = settings.load().log_format
    eyes = output_format is Format.TEXT and (
        chosen == "console" or (chosen == "auto" and sys.stdout.isatty())
    )
    painter = Painter(colour=coloured(sys.stdout))

    def write(record: LogRecord) -> None:
        if eyes:
            output.say(painter(record.model_dump(exclude_defaults=True)))
        else:
            output.say(redact(record.model_dump_json(exclude_defaults=True)))

    return write


def show(records: Iterable[LogRecord], asked: Asked, write: Callable[[LogRecord], None]) -> None:
    """Those that are asked for, written, whole lines at once."""
    for record in records:
        if asked.takes(record):
            write(record)
    sys.stdout.flush()
