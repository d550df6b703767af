"""`chimera task`: the pieces of a mission's work."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.hub import ask
from chimera.cli.output import Format, Key, Output, Url

if TYPE_CHECKING:
    from chimera.core.verdict import Verdict
    from chimera.core.views import TaskView

app = output.group("task", "Tasks of a mission: list, get.")


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


@app.command("list")
def list_(
    mission_id: Annotated[str, typer.Argument(metavar="MISSION")],
    status: Annotated[Status | None, typer.Option(help="Only tasks of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most to list.")] = 100,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """A mission's tasks, in the order planned.

    \b
    Example:
      chimera task list MISSION --status FAILED
    """
    from chimera.core.money import usd
    from chimera.core.task import TaskStatus

    wanted = TaskStatus(status.value) if status else None
    tasks = ask(url, api_key_file, lambda client: client.tasks(mission_id, status=wanted, limit=limit))
    if output_format is Format.JSON:
        return output.document(tasks)
    rows = [
        (task.task_id, task.status, task.task_type, str(task.attempt), usd(task.spent_microusd), task.reason)
        for task in tasks
    ]
    return output.table(("TASK", "STATUS", "AGENT", "ATTEMPT", "SPENT", "REASON"), rows)


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


def show(task: TaskView) -> None:
    """One task for people."""
    from chimera.core.money import usd

    output.say(f"{task.task_id}  {task.status}  {task.task_type}  attempt {task.attempt}")
    if task.reason:
        output.say(f"  reason   {task.reason}")
    if task.last_error:
        output.say(f"  error    {task.last_error}")
    output.say(f"  spent    {usd(task.spent_microusd)}")
    output.say(f"  input    {output.short(task.input)}")
    if task.has_result:
        output.say(f"  result   {output.short(task.result, 2_000)}")
    for verdict in task.verdicts:
        output.say(f"  verdict  {words(verdict)}")


def words(verdict: Verdict) -> str:
    """A verdict on one line."""
    parts = [f"{verdict.decision} {verdict.confidence:.2f} by {verdict.judge or 'judge'}"]
    if verdict.topics:
        parts.append(f"topics: {', '.join(verdict.topics)}")
    if verdict.feedback:
        parts.append(output.short(verdict.feedback, 300))
    return "; ".join(parts)
