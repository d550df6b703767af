"""Processes that belong to a fleet, found without having been recorded.

Every process of a fleet inherits CHIMERA_FLEET_ID. Ray's workers and agents overwrite their
environment when they rename themselves, so those are known by the fleet's own temporary directory
on their command line or among the files that they write. Who reads there, `chimera logs --follow` or a
pager, is none of it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from chimera.serving.local.process import ProcessId, ancestry, end, own
from chimera.serving.local.state import StateDir

MARKER = "CHIMERA_FLEET_ID"
ROUNDS = 5
"""Sweeps: a process may start another one while it is ended."""


def find(state: StateDir, *, spare: Collection[ProcessId] = ()) -> list[ProcessId]:
    """The fleet's live processes, without this one, its ancestors and those to `spare`."""
    line = ancestry(os.getpid())
    return [
        process
        for process in own()
        if process.pid not in line and process not in spare and _belongs(process.pid, state)
    ]


def sweep(state: StateDir, *, spare: Collection[ProcessId] = (), grace_s: float = 1.0) -> int:
    """End them all: SIGTERM, then SIGKILL; how many there were."""
    count = 0
    for _ in range(ROUNDS):
        left = find(state, spare=spare)
        if not left:
            break
        count += len(left)
        end(left, grace_s=grace_s)
    return count


def is_supervisor(process: ProcessId) -> bool:
    """Whether it is a supervisor (or its reaper), by its command line."""
    return "chimera.serving.local" in process.command_line()


def _belongs(pid: int, state: StateDir) -> bool:
    directory = Path(f"/proc/{pid}")
    marker = f"{MARKER}={state.id}".encode()
    temporary = f"{state.ray_temp}/"
    with suppress(OSError):
        if marker in (directory / "environ").read_bytes().split(b"\0"):
            return True
        if temporary.encode() in (directory / "cmdline").read_bytes():
            return True
        for entry in (directory / "fd").iterdir():
            with suppress(OSError):
                if entry.readlink().as_posix().startswith(temporary) and _writes(directory, entry.name):
                    return True
    return False


def _writes(directory: Path, descriptor: str) -> bool:
    """Whether a process, of /proc/PID, has that file open to write to it."""
    told = (directory / "fdinfo" / descriptor).read_text(encoding="ascii")
    (flags,) = (line.split()[1] for line in told.splitlines() if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
