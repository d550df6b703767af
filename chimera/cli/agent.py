"""`chimera agent`: write one, list them, run one without a fleet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.exits import Exit
from chimera.cli.hub import ask, is_named
from chimera.cli.hub import run as run_async
from chimera.cli.mission import json_object
from chimera.cli.output import Format, Key, Output, Url
from chimera.cli.task import words
from chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from chimera.cli.solo import SoloRun
    from chimera.core.verdict import Verdict

app = output.group("agent", "Agents: new, list, run (one alone, no fleet).")

TEMPLATE = '''"""An agent of your own.

    chimera agent run {name} --agents {file} --input "some text"
    chimera up --agents {file}
"""

from chimera import Context, Task, agent


@agent("{name}")
async def {function}(task: Task, ctx: Context) -> dict[str, object]:
    """Counts the words of its input."""
    text = str(task.input)
    # Ask the model with: await ctx.model.text(f"Summarise: {{text}}")
    return {{"words": len(text.split())}}
'''

Agents = Annotated[
    list[Path] | None,
    typer.Option("--agents", metavar="FILE", help="A Python file that registers agents; may be repeated."),
]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, - and _.")],
    output_format: Output = Format.TEXT,
) -> None:
    """Write a new agent into NAME.py, ready to run.

    \b
    Example:
      chimera agent new word-count
    """
    from chimera.core.mission import AGENT_PATTERN

    if not re.fullmatch(AGENT_PATTERN, name):
        raise ConfigurationError(
            f"{name!r} cannot name an agent: use lower-case letters, digits, - and _, beginning with a letter"
        )
    function = name.replace("-", "_")
    file = Path(f"{function}.py")
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(TEMPLATE.format(name=name, function=function, file=file))
    except FileExistsError as exc:
        raise ConfigurationError(f"{file} is there already: choose another name, or edit it") from exc
    if output_format is Format.JSON:
        return output.document({"agent": name, "file": str(file)})
    output.say(f"{file} is written; try it:")
    return output.say(f'  chimera agent run {name} --agents {file} --input "one two three"')


@app.command("list")
def list_(
    local: Annotated[
        bool, typer.Option("--local", help="Those this process can load, not the hub's.")
    ] = False,
    agents: Agents = None,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """The agents missions may name: the hub's, or without a hub those this process can load.

    \b
    Examples:
      chimera agent list
      chimera agent list --local --agents my_agents.py
    """
    from chimera import settings

    rows: list[dict[str, Any]]
    if local or agents or not is_named(url):
        from chimera.cli.solo import registry

        rows = [
            {"name": info.name, "description": info.description, "source": info.source}
            for info in registry(agents or []).infos()
        ]
    else:
        rows = output.plain(ask(url, api_key_file, lambda client: client.agents()))
        if settings.load().agents:
            output.note("these are the hub's; those of CHIMERA_AGENTS here: `chimera agent list --local`")
    if output_format is Format.JSON:
        return output.document(rows)
    table = [(row["name"], row["source"], output.short(row["description"])) for row in rows]
    return output.table(("AGENT", "FROM", "DOES"), table)


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A registered agent.")],
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            "-i",
            help="A file (JSON where it ends in .json, else text), `-` for stdin, or the text.",
        ),
    ],
    agents: Agents = None,
    goal: Annotated[str, typer.Option(help="The mission's goal, as the agent and the judge see it.")] = "",
    options: Annotated[str, typer.Option(metavar="JSON", help="The agent's options.")] = "{}",
    mission: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take goal, options, context and judge from this mission file."),
    ] = None,
    budget_usd: Annotated[str, typer.Option(metavar="USD", help="The most it may spend.")] = "1.00",
    output_format: Output = Format.TEXT,
) -> None:
    """Run one agent in this process, with no fleet; prints its result, cost and verdict.

    Actions that it proposes are shown, and never carried out.

    Exit 0: accepted; 1: failed or rejected; 3: over the budget; 5: would wait for a human.

    \b
    Examples:
      chimera agent run llm -i README.md --options '{"prompt": "Title of: {input}"}'
      chimera agent run shout --agents shout.py -i "hello"
    """
    from chimera.cli.solo import run_alone

    log_to_stderr()
    given = json_object(options, "--options")
    done = run_async(run_alone(name, read_input(input_), agents or [], goal, given, mission, budget_usd))
    if output_format is Format.JSON:
        output.document(done.document())
    else:
        tell(done)
    output.leave(of_verdict(done.verdict))


def log_to_stderr() -> None:
    """Send this process's log to stderr, as the settings say."""
    from chimera import settings
    from chimera.telemetry import logs

    logs.configure(settings.load(), role="cli")


def read_input(given: str) -> Any:
    """The input item: a file's content, stdin's, or the text itself."""
    import json
    import sys

    try:
        if given == "-":
            return sys.stdin.read()
        file = Path(given)
        if not is_file(file):
            return given
        text = file.read_text(encoding="utf-8-sig")
        return json.loads(text) if file.suffix.lower() == ".json" else text
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"--input {given} cannot be read ({exc}): give a text file") from exc
    except json.JSONDecodeError as exc:
        raise ConfigurationError(f"--input {given} is no JSON (line {exc.lineno}: {exc.msg})") from exc


def is_file(path: Path) -> bool:
    """Whether there is such a file; text too long to be a name names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def tell(done: SoloRun) -> None:
    """One run for people: the result on stdout, the rest beside it."""
    from chimera.core.money import usd

    output.say(done.result if isinstance(done.result, str) else output.short(done.result, 10_000))
    for action in done.actions:
        output.note(f"proposes {output.short(action.model_dump(mode='json'), 2_000)}; nothing was sent")
    output.note(f"verdict  {words(done.verdict)}")
    for opinion in done.verdict.opinions:
        output.note(f"  {opinion.policy} {opinion.confidence:.2f} {opinion.feedback}".rstrip())
    calls = output.counted(len(done.charges), "model call")
    output.note(f"cost     {usd(done.cost_microusd)} in {calls}, {done.seconds:.1f} s")


def of_verdict(verdict: Verdict) -> Exit:
    """The code for a verdict."""
    codes = {"accept": Exit.COMPLETED, "escalate": Exit.WAITS_FOR_HUMAN}
    return codes.get(verdict.decision, Exit.FAILED)
