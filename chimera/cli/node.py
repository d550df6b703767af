"""`chimera node`: one node of a cluster, in the foreground: what a container runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from chimera.cli import output
from chimera.cli.exits import Exit, of_error
from chimera.cli.fleet import LOCAL
from chimera.cli.output import Format, Output
from chimera.errors import ChimeraError, ConfigurationError

if TYPE_CHECKING:
    from chimera.serving.node.place import Place
    from chimera.settings import Settings

app = output.group("node", "One node of a cluster, as a container runs it: head, worker, judge.")


@app.callback()
def node() -> None:
    """One node of a cluster, in the foreground, until SIGTERM: what a container, or a machine, runs.

    All it is told is its environment (`chimera env`). All it says is its log on stdout, with that of Ray and
    of everything on the node: a JSON record a line, or text on a terminal (CHIMERA_LOG_FORMAT).

    \b
    Examples:
      chimera node head
      CHIMERA_NODE_ADDRESS=chimera-core:6380 chimera node worker
    """


@app.command()
def head(output_format: Output = Format.TEXT) -> None:
    """The head: Ray's head, and on it the hub, which answers on CHIMERA_HTTP_PORT.

    It waits for Redis (CHIMERA_REDIS_URL). With CHIMERA_JUDGE_RESOURCE the judge runs on the node that has
    that resource: until it is there missions are taken and worked on, and nothing is accepted. Exit 0 after
    SIGTERM; not 0 when Ray or the hub has ended by itself, so that whoever started this starts it again.

    \b
    Examples:
      chimera node head
      CHIMERA_JUDGE_RESOURCE=judge CHIMERA_HTTP_HOST=0.0.0.0 chimera node head
    """

    def run(settings: Settings, place: Place) -> Any:
        from chimera.serving.node.head import Head

        return Head(settings, place).run()

    stay(run, output_format)


@app.command()
def worker(output_format: Output = Format.TEXT) -> None:
    """A node with a place for one worker. The hub gives that what it needs: the node has no login to Redis.

    It waits for the head at CHIMERA_NODE_ADDRESS, and joins anew when that was replaced. At SIGTERM its
    worker takes no more work, and finishes or hands back what it has within CHIMERA_PREEMPT_S; then exit 0.

    \b
    Examples:
      chimera node worker
      CHIMERA_NODE_ADDRESS=chimera-core:6380 CHIMERA_NODE_TOKEN_FILE=token chimera node worker
    """
    stay(_member("WORKER"), output_format)


@app.command()
def judge(output_format: Output = Format.TEXT) -> None:
    """A node for the judge alone: the head's CHIMERA_JUDGE_RESOURCE puts it here, and nowhere else.

    It waits and joins as a worker's node does. It logs in to Redis as the judge, with what is derived from
    CHIMERA_REDIS_SECRET, or as CHIMERA_REDIS_URL says. While it is away nothing is accepted, or lost.

    \b
    Examples:
      chimera node judge
      CHIMERA_REDIS_URL=redis://redis:6379/0 CHIMERA_NODE_ADDRESS=chimera-core:6380 chimera node judge
    """
    stay(_member("JUDGE"), output_format)


def _member(duty: str) -> Callable[[Settings, Place], Any]:
    def run(settings: Settings, place: Place) -> Any:
        from chimera.serving.node.member import Duty, Member

        return Member(Duty[duty], settings, place).run()

    return run


def stay(run: Callable[[Settings, Place], Any], output_format: Format) -> None:
    """Run a node to its end. What goes wrong is a record too: a container's log has nothing else."""
    import asyncio

    import structlog

    from chimera import settings as configuration
    from chimera.telemetry.logs import begin, configure

    log = structlog.get_logger(__name__)
    begin("node", "stdout", capture_print=False)
    try:
        settings = configuration.load()
        configure(settings, role="node", stream="stdout", capture_print=False)
        take, shown = _package()
        with ExitStack() as held:
            place = take(settings, held)
            with shown(place.state, output_format):
                asyncio.run(run(settings, place))
    except ChimeraError as exc:
        log.error("node.failed", message=str(exc))
        output.leave(of_error(exc))
    except Exception as exc:
        log.exception("node.failed", message=f"nobody foresaw this: {exc!r}")
        output.leave(Exit.BUG)


def _package() -> tuple[Any, Any]:
    """What runs a node, or one clear sentence where it is not installed."""
    try:
        from chimera.cli.foreground import shown
        from chimera.serving.node.place import take
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.partition(".")[0] == "chimera":
            raise
        raise ConfigurationError(f"a node needs {exc.name}, which is not installed: install {LOCAL}") from exc
    return take, shown
