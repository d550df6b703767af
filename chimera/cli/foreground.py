"""`chimera up --foreground`: a local fleet that lives as long as this command, with its log on stdout."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chimera.cli import output
from chimera.cli.exits import Exit
from chimera.cli.logs import POLL_S, Asked, show, writer
from chimera.cli.output import Format
from chimera.errors import Conflict
from chimera.serving.local import fleet, logfiles
from chimera.serving.local.state import StateDir
from chimera.settings import Settings


def stay(settings: Settings, agents: Sequence[Path], output_format: Format) -> Exit:
    """Start the fleet, show what it says, end it when this process is asked to end.

    Returns:
        `COMPLETED` after that; `FAILED` when the fleet ended by itself.
    Raises:
        Conflict: a fleet runs already.
        ChimeraError: it did not start, as `chimera.serving.local.fleet.up` raises it.
    """
    state = StateDir(settings.state_dir)
    if (running := state.read()) is not None and running.supervisor.is_alive():
        raise Conflict(f"a fleet runs here already, at {running.url}: `chimera down`, and this again")
    ending = _asked_to_end()
    with shown(state, output_format):
        try:
            started = fleet.up(settings, agents=agents)
            while not ending.is_set():
                if started.supervisor.wait(POLL_S):
                    output.note("the fleet has ended by itself: its log says why")
                    return Exit.FAILED
        except KeyboardInterrupt:  # while it starts: `up` has left nothing running
            return Exit.COMPLETED
        finally:
            fleet.down(settings)
    return Exit.COMPLETED


def _asked_to_end() -> threading.Event:
    """Set by SIGTERM or SIGINT, both of which interrupt a start too."""
    ending = threading.Event()

    def end(*_: object) -> None:
        if not ending.is_set():
            ending.set()
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return ending


@contextmanager
def shown(state: StateDir, output_format: Format) -> Iterator[None]:
    """What the fleet, or node, of this directory says from now on goes to stdout, to the last line."""
    files, write, over = logfiles.LogFiles(logfiles.of_fleet(state)), writer(output_format), threading.Event()
    files.skip()

    def follow() -> None:
        while not over.wait(POLL_S):
            show(files.new(), Asked(), write)
        show(files.new(), Asked(), write)
        files.close()

    following = threading.Thread(target=follow, name="log of the fleet")
    following.start()
    try:
        yield
    finally:
        over.set()
        following.join()
