"""How the processes of a fleet call themselves: known from outside without asking Ray."""

from __future__ import annotations

import re
import socket
from pathlib import Path

CELL = "chimera.serving.cell"
"""The module that a worker's process runs: what has its leases, its heartbeat and its agents."""
PARTS = {
    "judge": "ray::ServeReplica:chimera:Judge",
    "orchestrator": "ray::ServeReplica:chimera:Orchestrator",
    "gateway": "ray::ServeReplica:chimera:Gateway",
    "governor": "ray::GovernorActor",
}
"""The hub's parts, by name."""


def worker_title(tenant: str, busy: int, slots: int) -> str:
    """What a worker's Ray process calls itself: ``ray::WorkerActor acme 3/16 busy``."""
    return f"ray::WorkerActor {tenant} {busy}/{slots} busy"


def is_worker(pid: int, worker_id: str = "") -> bool:
    """Whether this is a worker's process, or that of this very one: numbers are used again.

    A worker says its own number, and may say another's: so who ends a process for it names the worker too.
    """
    named = f"{worker_id}\0" if worker_id else ""
    try:
        return f"-m\0{CELL}\0{named}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def process_here(said: str) -> int | None:
    """The number of a process of this host, from a heartbeat's ``id@host``; None where it is no such.

    Agents can write heartbeats: whatever stands there must do no harm.
    """
    pid, _, host = said.partition("@")
    return int(pid) if host == socket.gethostname() and re.fullmatch("[0-9]{1,9}", pid) else None
