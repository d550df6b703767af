"""An archivist, or a retention, in a process of its own, to be killed, or put where there is no room.

    python -m tests.runtime.archiving TENANT rlimit|tmpfs|free FOLDER [archivist|retention]

Settings come from the environment. With `rlimit` no file may grow beyond `SMALL` bytes; with `tmpfs`
it mounts a file system of that size at the folder, in a namespace of its own. A line on its input
makes room. It says "ready" once it works; its log is its error output.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys

from chimera import settings
from chimera.runtime import archivist, retention, troubles
from chimera.runtime.archivist import Archivist
from chimera.runtime.base import open_base
from chimera.runtime.elector import Elector
from chimera.runtime.retention import Retention
from chimera.store import pruning
from chimera.telemetry.logs import configure

SMALL = 16_384


def confine(how: str, folder: str) -> None:
    """Take the room away."""
    if how == "rlimit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL // 4, resource.RLIM_INFINITY))
    if how == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", folder], check=True)


def make_room(how: str, folder: str) -> None:
    """Give it back."""
    if how == "rlimit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if how == "tmpfs":
        # With its source, or the options it was mounted with come along: ids that mean nothing in here.
        subprocess.run(["mount", "-o", "remount,size=64m", "tmpfs", folder], check=True)


async def main(tenant: str, how: str, folder: str, what: str = "archivist") -> None:
    """Archive until killed."""
    archivist.SEGMENT_EVENTS = 50 if how == "free" else archivist.SEGMENT_EVENTS
    pruning.BATCH = 3
    retention.WINDOW = 2
    troubles.RETRY_S = 0.2
    # Sooner than settings allow.
    read = settings.load().model_copy(update={"keep_missions_s": 0})
    configure(read, role=what, stream="stderr", capture_print=False)
    confine(how, folder)
    base = await open_base(read)
    elector = Elector(base.election(f"{what} of {tenant}"), "hub")
    service = Archivist(base, elector) if what == "archivist" else Retention(base, elector)
    service.sweep_s = 0.02
    elector.start()
    service.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while await asyncio.to_thread(sys.stdin.readline):
        make_room(how, folder)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
