"""`chimera mission`: estimate, submit, list, get, watch, results, cancel, pause, resume, set, schema."""

from __future__ import annotations

import json
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.estimate import estimate
from chimera.cli.hub import ask, connect, locate, run
from chimera.cli.output import Format, Key, Output, Url
from chimera.cli.run import MissionFileArgument, Strict, follow, read, send

if TYPE_CHECKING:
    from chimera.core.views import MissionView

app = output.group(
    "mission", "Missions: estimate, submit, list, get, watch, results, cancel, pause, resume, set, schema."
)
app.command("estimate")(estimate)

MissionId = Annotated[str, typer.Argument(metavar="MISSION")]


@app.command()
def submit(
    file: MissionFileArgument, output_format: Output = Format.TEXT, url: Url = "", api_key_file: Key = ""
) -> None:
    """Submit a mission and return at once; prints its id. Inputs from files are sent as they are read.

    \b
    Example:
      chimera mission submit examples/missions/digest.yaml
    """
    opened, operation = read(file), uuid.uuid4().hex
    mission = ask(url, api_key_file, lambda client: send(client, opened, operation))
    if output_format is Format.JSON:
        return output.document(mission)
    output.say(mission.mission_id)
    tasks = output.counted(mission.total_tasks, "task")
    return output.note(f"submitted: {tasks}; `chimera mission watch {mission.mission_id}`")


@app.command("list")
def list_(
    archived: Annotated[bool, typer.Option("--archived", help="Those that have left Redis.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="The most to list.")] = 50,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """The newest missions, newest first. A while after their end they are archived, and listed by themselves.

    \b
    Examples:
      chimera mission list --limit 5
      chimera mission list --archived
    """
    from chimera.core.money import usd

    found = ask(url, api_key_file, lambda client: client.missions(archived=archived, limit=limit))
    missions = output.named(found)
    if output_format is Format.JSON:
        return output.document(missions)
    if not missions and not missions.damaged:
        return output.note(
            f"there is no {'archived mission' if archived else 'mission'} yet: `chimera run FILE`"
        )
    rows = [
        (
            one.mission_id,
            one.status,
            f"{one.accepted}/{one.total_tasks}",
            usd(one.spent_microusd),
            one.submitted_at.strftime("%Y-%m-%d %H:%M:%SZ"),
            output.short(one.goal, 50),
        )
        for one in missions
    ]
    return output.table(("MISSION", "STATUS", "ACCEPTED", "SPENT", "SUBMITTED", "GOAL"), rows)


@app.command()
def get(
    mission_id: MissionId, output_format: Output = Format.TEXT, url: Url = "", api_key_file: Key = ""
) -> None:
    """One mission as it stands now.

    \b
    Example:
      chimera mission get MISSION -o json
    """
    mission = ask(url, api_key_file, lambda client: client.mission(mission_id))
    if output_format is Format.JSON:
        return output.document(mission)
    return show(mission)


def show(mission: MissionView) -> None:
    """One mission for people."""
    from chimera.cli.progress import actions, money, states, tallies

    output.say(f"{mission.mission_id}  {mission.status}{f'  ({mission.reason})' if mission.reason else ''}")
    output.say(f"  trace    {mission.trace_id}")
    output.say(f"  goal     {output.short(mission.goal, 500)}")
    output.say(f"  agent    {mission.agent}, {mission.strategy}, priority {mission.priority}")
    output.say(f"  tasks    {mission.total_tasks}: {states(mission)}")
    if done := actions(mission):
        output.say(f"  actions  {done}")
    output.say(f"  spent    {money(mission)}")
    output.say(f"  state    version {mission.state_version}")
    if mission.context:
        output.say(f"  context  {output.short(mission.context, 500)}")
    if mission.tallies:
        output.say(f"  on the way: {tallies(mission)}")
    if mission.archived_at:
        output.say(f"  archived {mission.archived_at:%Y-%m-%d %H:%M:%SZ}; it can be read, not changed")
    if mission.next_step:
        output.say(f"  next     {mission.next_step}")


@app.command()
def watch(
    mission_id: MissionId,
    strict: Strict = False,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Watch a mission until it ends or waits for a human. Ctrl-C stops the watching only.

    \b
    Example:
      chimera mission watch MISSION
    """
    output.leave(follow(url, api_key_file, output_format, mission_id=mission_id, strict=strict))


@app.command()
def results(
    mission_id: MissionId,
    after: Annotated[
        str, typer.Option(help="Go on behind this: `next` of the last result there is.", metavar="N")
    ] = "",
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """What is accepted so far; with -o json one result a line.

    \b
    Examples:
      chimera mission results MISSION -o json > results.ndjson
      chimera mission results MISSION -o json --after 500000 >> results.ndjson
    """
    from chimera.cli.progress import told

    async def stream() -> None:
        async with (
            connect(locate(url, api_key_file)) as client,
            aclosing(client.results(mission_id, after=after)) as found,
        ):
            mission = await client.mission(mission_id)
            async for result in found:
                output.line(result) if output_format is Format.JSON else output.say(told(result, mission))

    run(stream())


@app.command()
def cancel(
    mission_id: MissionId,
    reason: Annotated[str, typer.Option(help="Kept with the mission.")] = "",
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """End a mission; what is accepted stays.

    \b
    Example:
      chimera mission cancel MISSION --reason "wrong inputs"
    """
    mission = ask(url, api_key_file, lambda client: client.cancel(mission_id, reason))
    if output_format is Format.JSON:
        return output.document(mission)
    kept = output.counted(mission.accepted, "accepted result")
    return output.say(f"{mission.mission_id} is {mission.status}; kept: {kept}")


@app.command()
def pause(
    mission_id: MissionId,
    reason: Annotated[str, typer.Option(help="Kept with the mission.")] = "",
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Hold a mission: nothing more is claimed or judged, what is under way is kept.

    \b
    Example:
      chimera mission pause MISSION --reason "prices are being checked"
    """
    mission = ask(url, api_key_file, lambda client: client.pause(mission_id, reason))
    if output_format is Format.JSON:
        return output.document(mission)
    return output.say(
        f"{mission.mission_id} is {mission.status}; `chimera mission resume {mission.mission_id}` goes on"
    )


@app.command()
def resume(
    mission_id: MissionId,
    budget_usd: Annotated[
        str | None, typer.Option(help="A larger budget; needed when the budget ended it.", metavar="USD")
    ] = None,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Let a paused mission go on; or one that ran out of budget, under a larger one.

    \b
    Examples:
      chimera mission resume MISSION
      chimera mission resume MISSION --budget-usd 0.50
    """
    mission = ask(url, api_key_file, lambda client: client.resume(mission_id, budget_usd=budget_usd))
    if output_format is Format.JSON:
        return output.document(mission)
    return output.say(f"{mission.mission_id} is {mission.status}; `chimera mission watch` follows it")


@app.command("set")
def set_(
    mission_id: MissionId,
    goal: Annotated[str | None, typer.Option(help="The new goal.")] = None,
    context: Annotated[
        str | None, typer.Option(help="The new context document, as a JSON object.", metavar="JSON")
    ] = None,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """Change goal or context: work under way is done again. Results that are accepted stand.

    \b
    Example:
      chimera mission set MISSION --goal "Digest in French" --context '{"year": 2026}'
    """
    if goal is None and context is None:
        raise typer.BadParameter("give --goal, --context or both", param_hint="--goal / --context")
    document = None if context is None else json_object(context, "--context")
    mission = ask(url, api_key_file, lambda client: client.edit(mission_id, goal=goal, context=document))
    if output_format is Format.JSON:
        return output.document(mission)
    output.say(f"{mission.mission_id} has state version {mission.state_version}")
    if mission.accepted:
        output.note(f"kept, as accepted before: {output.counted(mission.accepted, 'result')}")
    return None


def json_object(text: str, flag: str) -> dict[str, Any]:
    """A flag's JSON object; anything else is a usage error."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as exc:
        raise typer.BadParameter(f"is no JSON ({exc.msg} at character {exc.pos})", param_hint=flag) from exc
    if not isinstance(value, dict):
        raise typer.BadParameter('must be a JSON object, like {"year": 2026}', param_hint=flag)
    return value


@app.command()
def schema() -> None:
    """The JSON Schema of a mission file.

    \b
    Example:
      chimera mission schema > mission.schema.json
    """
    from chimera.missionfile import schema_text

    output.say(schema_text().rstrip("\n"))
