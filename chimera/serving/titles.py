"""How Ray's processes of a fleet call themselves: known from outside without asking Ray."""

from __future__ import annotations

from pathlib import Path

WORKER = "ray::WorkerActor"
PARTS = {
    "judge": "ray::ServeReplica:chimera:Judge",
    "orchestrator": "ray::ServeReplica:chimera:Orchestrator",
    "gateway": "ray::ServeReplica:chimera:Gateway",
    "governor": "ray::GovernorActor",
}
"""The hub's parts, by name."""


def is_worker(pid: int) -> bool:
    """Whether this is a worker's process: numbers are used again."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(WORKER.encode())
    except OSError:
        return False
