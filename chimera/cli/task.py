"""`chimera task`: the pieces of a mission's work."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.hub import ask
from chimera.cli.output import Format, Key, Output, Url

if TYPE_CHECKING:
    from chimera.client import Client
    from chimera.core.verdict import Verdict
    from chimera.core.views import ActionView, RedriveView, TaskView

app = output.group("task", "Tasks of a mission: list, get, why, redrive.")


ALL = 1_000_000
"""More than a mission may have."""


class Status(StrEnum):
    """`chimera.core.task.TaskStatus`, without its import at start; a test compares the two."""

    BLOCKED = "BLOCKED"
    READY = "READY"
    PENDING = "PENDING"
    REVIEW = "REVIEW"
    ESCALATED = "ESCALATED"
    ACCEPTED = "ACCEPTED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


OfStatus = Annotated[Status | None, typer.Option(help="Only tasks of this status.")]
ForReason = Annotated[str, typer.Option(help="Only tasks with this reason, as `list` shows it.")]


async def _find(
    client: Client, mission_id: str, status: Status | None, reason: str, limit: int
) -> list[TaskView]:
    """Tasks of a mission, or of all missions, newest mission first."""
    from chimera.core.task import TaskStatus

    wanted = TaskStatus(status.value) if status else None
    missions = [mission_id]
    if not mission_id:
        missions = [one.mission_id for one in output.named(await client.missions(limit=ALL))]
    found: list[TaskView] = []
    for one in missions:
        tasks = await client.tasks(one, status=wanted, limit=ALL if reason else limit - len(found))
        found += [task for task in tasks if not reason or task.reason == reason]
        if len(found) >= limit:
            break
    return found[:limit]


@app.command("list")
def list_(
    mission_id: Annotated[str, typer.Argument(metavar="[MISSION]")] = "",
    status: OfStatus = None,
    reason: ForReason = "",
    limit: Annotated[int, typer.Option(min=1, help="The most to list.")] = 100,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Tasks of a mission in the order planned, or of all missions.

    \b
    Examples:
      chimera task list MISSION --status FAILED
      chimera task list --status FAILED --reason poisoned
    """
    from chimera.core.money import usd

    tasks = ask(url, api_key_file, lambda client: _find(client, mission_id, status, reason, limit))
    if output_format is Format.JSON:
        return output.document(tasks)
    rows = [
        (task.task_id, task.status, task.task_type, str(task.attempt), usd(task.spent_microusd), task.reason)
        for task in tasks
    ]
    return output.table(("TASK", "STATUS", "AGENT", "ATTEMPT", "SPENT", "REASON"), rows)


@app.command()
def redrive(
    task_id: Annotated[str, typer.Argument(metavar="[TASK]")] = "",
    mission_id: Annotated[str, typer.Option("--mission", help="All failed tasks of this mission.")] = "",
    reason: Annotated[str, typer.Option(help="All that failed for this reason, in any mission.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Give failed tasks a fresh set of attempts; their missions go on.

    \b
    Examples:
      chimera task redrive MISSION.7
      chimera task redrive --mission MISSION
      chimera task redrive --reason poisoned --yes
    """
    if bool(task_id) == bool(mission_id or reason):
        raise typer.BadParameter("name one task, or give --mission, --reason or both")
    if task_id:
        chosen = [task_id]
    else:
        found = ask(url, api_key_file, lambda client: _find(client, mission_id, Status.FAILED, reason, ALL))
        chosen = [task.task_id for task in found]
        if not chosen:
            return output.say("no failed task matches")
        missions = len({one.partition(".")[0] for one in chosen})
        question = f"redrive {output.counted(len(chosen), 'task')} of {output.counted(missions, 'mission')}?"
        output.confirm(question, yes=yes)
    views = ask(url, api_key_file, lambda client: _redrive(client, chosen))
    if output_format is Format.JSON:
        return output.document(views)
    for view in views:
        tasks = output.counted(view.redriven, "task")
        output.say(f"{view.mission.mission_id} is {view.mission.status}; {tasks} redriven")
    return None


async def _redrive(client: Client, task_ids: list[str]) -> list[RedriveView]:
    missions = dict.fromkeys(task_id.partition(".")[0] for task_id in task_ids)
    views = []
    for mission in missions:
        mine = [task_id for task_id in task_ids if task_id.partition(".")[0] == mission]
        views += [await client.redrive(mission, mine[at : at + 500]) for at in range(0, len(mine), 500)]
    return views


@app.command()
def get(
    task_id: Annotated[str, typer.Argument(metavar="TASK")],
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """One task: its input, result and every verdict.

    \b
    Example:
      chimera task get MISSION.0 -o json
    """
    task = ask(url, api_key_file, lambda client: client.task(task_id))
    if output_format is Format.JSON:
        return output.document(task)
    return show(task)


@app.command()
def why(
    task_id: Annotated[str, typer.Argument(metavar="TASK")],
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """What a task waits for: its place in line, what holds it, and what to do.

    \b
    Examples:
      chimera task why MISSION.7
      chimera task why MISSION.7 -o json
    """
    found = ask(url, api_key_file, lambda client: client.why(task_id))
    if output_format is Format.JSON:
        return output.document(found)
    output.say(f"{found.task_id}  {found.status or 'not planned yet'}  {found.cause}")
    if found.position is not None:
        output.say(f"  position {found.position:,} of {found.waiting:,}")
    output.say(f"  because  {found.detail}")
    return output.say(f"  next     {found.next_step}")


def show(task: TaskView) -> None:
    """One task for people."""
    from chimera.core.money import usd

    output.say(f"{task.task_id}  {task.status}  {task.task_type}  attempt {task.attempt}")
    if task.reason:
        output.say(f"  reason   {task.reason}")
    if task.last_error:
        output.say(f"  error    {task.last_error}")
    output.say(f"  stage    {task.stage}")
    output.say(f"  spent    {usd(task.spent_microusd)}")
    output.say(f"  input    {output.short(task.input)}")
    for other, result in task.context.inputs.items():
        output.say(f"  takes    {other}: {output.short(result)}")
    if task.has_result:
        output.say(f"  result   {output.short(task.result, 2_000)}")
    if task.state_version:
        output.say(f"  state    version {task.state_version} of the mission's goal and context")
    for proposed in task.proposed:
        output.say(f"  proposes {output.short(proposed, 2_000)}")
    for action in task.actions:
        output.say(f"  action   {action.index} {action.status}  {told(action)}")
    show_verdicts(task.verdicts)


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Verdicts for people, each with what its policies said."""
    for verdict in verdicts:
        output.say(f"  verdict  {words(verdict)}")
        for opinion in verdict.opinions:
            said = opinion.details.get("note") or opinion.feedback
            output.say(f"    {opinion.policy} {opinion.confidence:.2f}  {output.short(said, 300)}".rstrip())


def told(action: ActionView) -> str:
    """An action on one line: what it asks for, and the last answer."""
    asks = f"{action.action.get('method', action.action['kind'])} {action.action.get('url', '')}"
    return f"{asks}  {output.short(action.answer, 200)}".rstrip()


def words(verdict: Verdict) -> str:
    """A verdict on one line."""
    parts = [f"{verdict.decision} {verdict.confidence:.2f} by {verdict.judge or 'judge'}"]
    if verdict.topics:
        parts.append(f"topics: {', '.join(verdict.topics)}")
    if verdict.feedback:
        parts.append(output.short(verdict.feedback, 300))
    return "; ".join(parts)
