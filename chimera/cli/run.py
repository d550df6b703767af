"""`chimera run FILE`: submit and watch."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.exits import Exit, of_mission
from chimera.cli.hub import connect, locate
from chimera.cli.hub import run as run_async
from chimera.cli.output import Format, Key, Output, Url

if TYPE_CHECKING:
    from chimera.client import Client
    from chimera.core.views import MissionView
    from chimera.missionfile import OpenMission

MissionFileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A mission file, YAML or JSON: see `chimera mission schema`.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 when any task failed.")]


def run(
    file: MissionFileArgument,
    strict: Strict = False,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Submit a mission, watch it, print each accepted result.

    Ctrl-C stops the watching, not the mission.

    \b
    Examples:
      chimera run examples/missions/digest.yaml
      chimera run m.yaml --strict -o json
    """
    mission = read(file)
    # One key for this run: whatever is tried again, the mission is made once.
    operation = uuid.uuid4().hex
    output.leave(
        follow(url, api_key_file, output_format, mission=mission, operation=operation, strict=strict)
    )


def read(file: Path) -> OpenMission:
    """The mission in the file, under the limits of the environment.

    Raises:
        InvalidRequest: every problem of the file and its inputs.
    """
    from chimera import settings
    from chimera.missionfile import open_mission

    limits = settings.load()
    return open_mission(file, max_input_bytes=limits.max_input_bytes, max_inputs=limits.max_inputs)


async def send(client: Client, mission: OpenMission, operation: str) -> MissionView:
    """Submit it; how far it is, on stderr, where there are many inputs."""
    from chimera.cli.progress import Sending

    return await client.submit(
        mission.spec,
        inputs=mission.inputs,
        idempotency_key=operation,
        sent=Sending(mission.count),
        traceparent=os.environ.get("TRACEPARENT", ""),  # as tools that trace commands set it
    )


def follow(
    url: str,
    api_key_file: str,
    output_format: Format,
    *,
    mission_id: str = "",
    mission: OpenMission | None = None,
    operation: str = "",
    strict: bool = False,
) -> Exit:
    """Watch a mission, submitted first where one is given. Ctrl-C leaves it going on."""
    from chimera.cli.progress import choose
    from chimera.cli.watching import Watch

    known = mission_id
    watch: Watch | None = None

    async def go() -> Exit:
        nonlocal known, watch
        async with connect(locate(url, api_key_file)) as client:
            if mission is not None:
                known = (await send(client, mission, operation)).mission_id
                output.note(f"mission {known} is submitted")
            watch = Watch(client, known, choose(output_format))
            return of_mission(await watch.run(), strict=strict)

    try:
        return run_async(go())
    except KeyboardInterrupt:
        output.note(
            f"stopped; the mission is over: `chimera mission results {known}` shows all that was accepted"
            if watch is not None and watch.over
            else f"stopped watching; the mission goes on: `chimera mission watch {known}` to see it, "
            f"`chimera mission cancel {known}` to end it"
            if known
            else "interrupted while submitting: `chimera mission list` shows whether it was submitted"
        )
        return Exit.INTERRUPTED
