"""The tree of all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from chimera.cli import (
    action,
    agent,
    chaos,
    dashboard,
    demo,
    doctor,
    env,
    fleet,
    governor,
    key,
    logs,
    mission,
    model,
    node,
    output,
    recorder,
    render,
    review,
    run,
    spend,
    task,
    tenant,
)
from chimera.version import __version__

app = typer.Typer(
    name="chimera",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its imports would double the time of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 completed, 1 failed, 2 usage or configuration, 3 refused (budget, quota, key), "
    "4 fleet unreachable, 5 waits for a human.",
)


def _print_version(asked: bool) -> None:
    if asked:
        output.say(f"chimera {__version__}")
        raise typer.Exit


@app.callback()
def chimera(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Fleets of AI agents: kept alive, judged and within budget.

    \b
    Examples:
      chimera up
      chimera run examples/missions/digest.yaml
      chimera down
    """


app.command("run")(run.run)
app.add_typer(mission.app)
app.add_typer(task.app)
app.add_typer(review.app)
app.add_typer(action.app)
app.add_typer(agent.app)
app.add_typer(recorder.app)
app.command("up")(fleet.up)
app.command("down")(fleet.down)
app.command("status")(fleet.status)
app.command("dashboard")(dashboard.dashboard)
app.command("logs")(logs.logs)
app.command("demo")(demo.demo)
app.add_typer(fleet.app)
tenant.app.command("render")(render.render)
app.add_typer(node.app)
app.add_typer(tenant.app)
app.add_typer(key.app)
app.add_typer(governor.app)
app.add_typer(spend.app)
app.add_typer(model.app)
app.add_typer(chaos.app)
app.command("doctor")(doctor.doctor)
app.command("env")(env.env)
