"""`chimera review`: what waits for a human, and the human's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.hub import ask
from chimera.cli.output import Format, Key, Output, Url
from chimera.cli.spend import show_flags
from chimera.cli.task import show_verdicts

if TYPE_CHECKING:
    from chimera.client import Client
    from chimera.client.listing import Listing
    from chimera.core.report import FlagView
    from chimera.core.views import ReviewView, TaskView

app = output.group("review", "What waits for a human: list, show, approve, reject.")

Task = Annotated[str, typer.Argument(metavar="TASK")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Kept with the verdict.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="The most to list.")] = 100,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """What waits for a human, longest waiting first; then what limits refused and nobody has acknowledged.

    \b
    Example:
      chimera review list
    """

    async def look(client: Client) -> tuple[Listing[ReviewView], list[FlagView]]:
        return await client.reviews(limit=limit), await client.flags()

    found, flags = ask(url, api_key_file, look)
    reviews = output.named(found)
    if output_format is Format.JSON:
        return output.document(reviews)
    if not reviews and not reviews.damaged:
        output.note("nothing waits for a human")
    rows = [(one.task_id, one.agent, one.reason, output.short(one.result, 80)) for one in reviews]
    if rows:
        output.table(("TASK", "AGENT", "REASON", "RESULT"), rows)
    if flags:
        show_flags(flags)
    return None


@app.command()
def show(task_id: Task, output_format: Output = Format.TEXT, url: Url = "", api_key_file: Key = "") -> None:
    """One result that waits: what was asked, what came, what the judge said.

    \b
    Example:
      chimera review show MISSION.3
    """
    one = ask(url, api_key_file, lambda client: client.review(task_id))
    if output_format is Format.JSON:
        return output.document(one)
    output.say(f"{one.task_id}  {one.agent}  attempt {one.attempt}  waits: {one.reason}")
    output.say(f"  goal     {output.short(one.goal, 500)}")
    output.say(f"  input    {output.short(one.input, 2_000)}")
    output.say(f"  result   {output.short(one.result, 4_000) if one.has_result else '(none)'}")
    for action in one.actions:
        output.say(f"  does     {output.short(action, 4_000)}")
    show_verdicts(one.verdicts)
    answers = ("approve", "reject") if one.has_result else ("reject",)
    return output.say("\n".join(f"  chimera review {answer} {one.task_id}" for answer in answers))


@app.command()
def approve(
    task_id: Task,
    comment: Comment = "",
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Accept the result; its mission goes on.

    \b
    Example:
      chimera review approve MISSION.3 -m "checked against the source"
    """
    _answered(ask(url, api_key_file, lambda client: client.approve(task_id, comment)), output_format)


@app.command()
def reject(
    task_id: Task,
    comment: Comment = "",
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Reject the result; the comment is feedback to the next attempt, if one is left.

    \b
    Example:
      chimera review reject MISSION.3 -m "name the author"
    """
    _answered(ask(url, api_key_file, lambda client: client.reject(task_id, comment)), output_format)


def _answered(task: TaskView, output_format: Format) -> None:
    if output_format is Format.JSON:
        return output.document(task)
    return output.say(f"{task.task_id} is {task.status}")
