"""`chimera action`: what accepted results asked for: list, retry."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.hub import ask
from chimera.cli.output import Format, Key, Output, Url
from chimera.cli.task import ALL, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera.client import Client
    from chimera.core.views import ActionView, MissionView, RetryView

app = output.group("action", "Actions of accepted results: list, retry.")


class Status(StrEnum):
    """`chimera.core.action.ActionStatus`, without its import at start; a test compares the two."""

    QUEUED = "QUEUED"
    DONE = "DONE"
    FAILED = "FAILED"


OfMission = Annotated[str, typer.Option("--mission", metavar="MISSION", help="Only those of this mission.")]
ToHost = Annotated[str, typer.Option("--host", help="Only those to this host; with its port, if it has one.")]


async def _find(
    client: Client, mission_id: str, status: Status | None, host: str, limit: int
) -> list[ActionView]:
    """Actions of a mission, or of all missions, newest mission first."""
    from chimera.core.action import ActionStatus

    wanted = ActionStatus(status.value) if status else None
    missions: Sequence[MissionView]
    if mission_id:
        missions = [await client.mission(mission_id)]
    else:
        missions = output.named(await client.missions(limit=ALL))
    found: list[ActionView] = []
    for mission in missions:
        if not sum(mission.actions.get(one, 0) for one in ([wanted] if wanted else ActionStatus)):
            continue
        actions = await client.actions(
            mission.mission_id, status=wanted, limit=ALL if host else limit - len(found)
        )
        found += [action for action in actions if not host or _goes_to(action) == host.lower()]
        if len(found) >= limit:
            break
    return found[:limit]


def _goes_to(action: ActionView) -> str:
    from chimera.core.action import address_of

    return str(address_of(action.action["url"])) if action.action["kind"] == "http" else ""


@app.command("list")
def list_(
    mission_id: OfMission = "",
    status: Annotated[Status | None, typer.Option(help="Only actions of this status.")] = None,
    host: ToHost = "",
    limit: Annotated[int, typer.Option(min=1, help="The most to list.")] = 100,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Actions of accepted results, and what became of them; what waits for a verdict is in `review show`.

    \b
    Examples:
      chimera action list --mission MISSION
      chimera action list --status FAILED --host hooks.example.com
    """
    actions = ask(url, api_key_file, lambda client: _find(client, mission_id, status, host, limit))
    if output_format is Format.JSON:
        return output.document(actions)
    if not actions:
        return output.note("no action matches")
    rows = [
        (one.task_id, str(one.index), one.status, str(one.tries), str(one.lapses), told(one))
        for one in actions
    ]
    return output.table(("TASK", "INDEX", "STATUS", "TRIES", "LAPSES", "ACTION AND LAST ANSWER"), rows)


@app.command()
def retry(
    task_id: Annotated[str, typer.Argument(metavar="[TASK]")] = "",
    index: Annotated[int | None, typer.Argument(metavar="[INDEX]", min=0)] = None,
    mission_id: OfMission = "",
    host: ToHost = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Try failed actions again, under the idempotency keys they had: one, or all that match.

    \b
    Examples:
      chimera action retry MISSION.7 0
      chimera action retry --mission MISSION
      chimera action retry --host hooks.example.com --yes
    """
    if bool(task_id) != (index is not None) or bool(task_id) == bool(mission_id or host):
        raise typer.BadParameter("name one action by TASK and INDEX, or give --mission, --host or both")
    if task_id:
        chosen = [f"{task_id}/{index}"]
    else:
        found = ask(url, api_key_file, lambda client: _find(client, mission_id, Status.FAILED, host, ALL))
        chosen = [action.action_id for action in found]
        if not chosen:
            return output.say("no failed action matches")
        missions = len({_mission_of(one) for one in chosen})
        question = f"retry {output.counted(len(chosen), 'action')} of {output.counted(missions, 'mission')}?"
        output.confirm(question, yes=yes)
    views = ask(url, api_key_file, lambda client: _retry(client, chosen))
    if output_format is Format.JSON:
        return output.document(views)
    for view in views:
        output.say(f"{view.mission.mission_id}: {output.counted(view.retried, 'action')} to be tried again")
    return None


def _mission_of(action_id: str) -> str:
    return action_id.partition(".")[0]


async def _retry(client: Client, action_ids: list[str]) -> list[RetryView]:
    views = []
    for mission in dict.fromkeys(map(_mission_of, action_ids)):
        mine = [one for one in action_ids if _mission_of(one) == mission]
        views += [await client.retry_actions(mission, mine[at : at + 500]) for at in range(0, len(mine), 500)]
    return views
