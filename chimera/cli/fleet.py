"""`chimera up`, `down`, `status`: the local fleet. `chimera fleet`: any fleet's workers, for the operator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.exits import Exit
from chimera.cli.output import Format, Output
from chimera.cli.store import at_base, at_store
from chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from chimera.runtime import drain
    from chimera.runtime.base import Base
    from chimera.serving.local.fleet import FleetStatus
    from chimera.serving.local.stages import StageEvent
    from chimera.serving.local.state import Fleet
    from chimera.settings import Settings
    from chimera.store.connection import Redis
    from chimera.store.ledger import Balance

LOCAL = "chimera-fleet[local]"
NODE_SHOWN = 12
"""Characters of a node's id in a table: enough to name it by."""


app = output.group("fleet", "The fleet, for the operator: its workers, its limits of money.")


def up(
    agents: Annotated[
        list[Path] | None,
        typer.Option(
            "--agents", metavar="FILE", help="A Python file that registers agents; may be repeated."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="The API's port; else CHIMERA_HTTP_PORT.")
    ] = None,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground",
            help="Stay, with its log on stdout, and end it at SIGTERM or Ctrl-C: as a container.",
        ),
    ] = False,
    output_format: Output = Format.TEXT,
) -> None:
    """Start the local fleet in the background: Redis, the model, Ray, the hub.

    A fleet that runs already is left as it is; exit 3 when it lacks these agents, or is at another port.
    Later commands find it by themselves. With --foreground all that its processes log comes here, as
    `chimera logs -f` shows it; exit 3 when one runs already, 1 when it ends by itself.

    \b
    Examples:
      chimera up
      chimera up --agents my_agents.py --port 8001
      chimera up --foreground
    """
    from chimera import settings

    for file in agents or []:
        if not file.is_file():
            raise ConfigurationError(f"--agents names {file}, which is no file: check the path")
    chosen = settings.load(**({} if port is None else {"http_port": port}))
    local = package()
    if foreground:
        from chimera.cli import foreground as staying

        output.leave(staying.stay(chosen, agents or [], output_format))
    try:
        fleet = local.up(chosen, progress=stage_note, agents=agents or [])
    except KeyboardInterrupt:
        output.note("interrupted: nothing was left running")
        output.leave(Exit.INTERRUPTED)
    if output_format is Format.JSON:
        return output.document(about(fleet))
    return show(fleet)


def down(output_format: Output = Format.TEXT) -> None:
    """End the local fleet; its data, keys and logs stay.

    \b
    Example:
      chimera down
    """
    from chimera import settings

    ran = package().down(settings.load())
    if output_format is Format.JSON:
        return output.document({"ended": ran})
    return output.say("the local fleet has ended" if ran else "no local fleet was running")


def status(output_format: Output = Format.TEXT) -> None:
    """What runs locally: processes, memory, addresses. Exit 4 when no fleet runs.

    \b
    Example:
      chimera status -o json
    """
    from chimera import settings

    found: FleetStatus = package().status(settings.load())
    if found.fleet is None:
        if output_format is Format.JSON:
            output.document({"running": False})
        else:
            output.say("no local fleet runs: `chimera up` starts one")
        output.leave(Exit.UNREACHABLE)
    if output_format is Format.JSON:
        output.document(
            {
                "running": True,
                **about(found.fleet),
                "alive": found.alive,
                "processes": found.processes,
                "memory_bytes": found.memory_bytes,
            }
        )
    else:
        show(found.fleet, down=[name for name, alive in found.alive.items() if not alive])
        output.say(f"  memory      {found.memory_bytes / 2**20:,.0f} MiB in {found.processes} processes")


@app.command()
def workers(output_format: Output = Format.TEXT) -> None:
    """Live workers of all tenants: whose each is, on which host and Ray node, and how much it has under way.

    \b
    Example:
      chimera fleet workers
    """
    from chimera.runtime import drain

    found = at_store(lambda redis, _: drain.workers(redis))
    if output_format is Format.JSON:
        return output.document([one._asdict() for one in found])
    rows = [(one.worker, one.tenant, one.host, one.node[:NODE_SHOWN], str(one.busy)) for one in found]
    return output.table(("WORKER", "TENANT", "HOST", "NODE", "BUSY"), rows)


@app.command()
def limits(
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[WINDOW=USD]...", help="Or WINDOW=none to remove it.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; needed to raise or remove one.")] = "",
    output_format: Output = Format.TEXT,
) -> None:
    """Limits over all tenants together, and how they stand; with arguments, change them.

    What tenants drew and did not spend counts as held. A lowered limit binds what is asked for next.

    \b
    Examples:
      chimera fleet limits
      chimera fleet limits day=100 month=2000
      chimera fleet limits day=none --reason "contract 17"
    """
    from chimera.cli.tenant import change_limits, limit_changes
    from chimera.core.money import usd
    from chimera.store import keys
    from chimera.store.fleetledger import FleetLedger

    asked = limit_changes(changes or [])
    if agents := [level for level in asked if "/" in level]:
        raise ConfigurationError(f"{agents[0]!r}: the fleet has limits by window alone, for example day=100")

    async def change(base: Base) -> Balance:
        if asked:
            await change_limits(base, keys.FLEET, asked, reason)
        return await FleetLedger(base.redis).balance()

    balance = at_base(change)
    if output_format is Format.JSON:
        return output.document({"limits_microusd": balance.limits, "held_microusd": balance.held})
    if not balance.limits:
        output.say("no limit over all tenants: `chimera fleet limits day=100` sets one")
    for window, limit in balance.limits.items():
        output.say(f"{window:<10} {usd(limit)}")
    return None


@app.command("drain")
def drain_(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORKER|NODE]...", help="Workers, or nodes: by host name, or the beginning of the id."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every worker of every tenant, and the spares that wait.")
    ] = False,
    within_s: Annotated[
        float | None,
        typer.Option(
            "--within", min=0, metavar="SECONDS", help="Then hand back; else CHIMERA_DRAIN_S decides."
        ),
    ] = None,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="Wait so long for them to leave.")
    ] = 600,
    output_format: Output = Format.TEXT,
) -> None:
    """Let workers finish what they hold, or hand it back uncounted, and leave. Exit 1 when some do not.

    They take no more work at once. Where there is work the fleet starts others in their stead; of a node that
    is to go, tell Ray or Kubernetes first that it takes no more. High-priority work is not handed back within
    the time that --within gives, but within CHIMERA_DRAIN_S.

    \b
    Examples:
      chimera fleet drain --all --within 30
      chimera fleet drain acme-3f2a91c0
      chimera fleet drain node-7.example.net --wait 0
      chimera fleet drain 5f0c27ab91d4
    """
    from chimera.runtime import drain

    if bool(names) == everything:
        raise typer.BadParameter("name workers or nodes, or say --all", param_hint="WORKER|NODE")

    async def send_away(redis: Redis, _: Settings) -> tuple[list[drain.Leaver], list[drain.Leaver]]:
        asked = await drain.drain(redis, names or (), everything=everything, within_s=within_s)
        return asked, await drain.gone(redis, asked, wait_s=wait_s) if wait_s else []

    asked, left = at_store(send_away)
    if output_format is Format.JSON:
        output.document(
            {"drained": [one._asdict() for one in asked], "still_there": [one.worker for one in left]}
        )
    else:
        for one in asked:
            output.say(f"{one.worker}: {'still there' if one in left else 'gone' if wait_s else 'asked'}")
    if left:
        output.leave(Exit.FAILED)


def package() -> Any:
    """`chimera.serving.local.fleet`, or one clear sentence where it is not installed."""
    try:
        from chimera.serving.local import fleet
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.partition(".")[0] == "chimera":
            raise
        raise ConfigurationError(
            f"a local fleet needs {exc.name}, which is not installed: install {LOCAL}"
        ) from exc
    return fleet


def stage_note(event: StageEvent) -> None:
    """One stage's news, on stderr."""
    seconds = f" {event.seconds:5.1f} s" if event.seconds else ""
    output.note(f"  {event.stage:<6} {event.status:<8}{seconds}  {event.detail}".rstrip())


def about(fleet: Fleet) -> dict[str, Any]:
    """A fleet as a document, without its secrets."""
    shown = output.plain(fleet)
    del shown["redis_url"]
    return {
        **shown,
        "admin_key_file": str(fleet.admin_key_file),
        "docs_url": f"{fleet.url}/docs",
        "logs": str(fleet.logs),
        "worker_logs": str(fleet.worker_logs),
    }


def show(fleet: Fleet, down: Sequence[str] = ()) -> None:
    """A fleet for people: how it stands, where it is and how to use it."""
    output.say(f"{standing(fleet, down)} (pid {fleet.supervisor.pid})")
    output.say(f"  API         {fleet.url}   (OpenAPI: {fleet.url}/docs)")
    output.say(f"  key         in {fleet.api_key_file}; `chimera` on this machine finds it")
    output.say(f"  fleet's key in {fleet.admin_key_file}: tenants and keys over HTTP")
    output.say(f"  dashboard   {fleet.dashboard_url}   (asks for the token in {fleet.ray_token_file})")
    output.say(
        f'  curl        curl -H "Authorization: Bearer $(cat {fleet.api_key_file})" {fleet.url}/v1/fleet'
    )
    output.say(f"  Python      export CHIMERA_URL={fleet.url} CHIMERA_API_KEY_FILE={fleet.api_key_file}")
    output.say(f"  logs        {fleet.logs}; hub and workers: {fleet.worker_logs}/worker-*.out")
    output.say("  next        chimera run FILE · chimera status · chimera down")


def standing(fleet: Fleet, down: Sequence[str] = ()) -> str:
    """Whether the fleet is whole, in a sentence."""
    since = f"since {fleet.started_at:%H:%M:%S} UTC"
    if down:
        return f"the fleet runs {since}, but {' and '.join(down)} died: the supervisor starts it again"
    if not fleet.ready:
        return f"the fleet runs {since}, and is not ready: a part of it is being started"
    return f"the fleet is up {since}"
