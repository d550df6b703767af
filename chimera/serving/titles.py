"""How the processes of a fleet call themselves: known from outside without asking Ray."""

from __future__ import annotations

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


def is_worker(pid: int) -> bool:
    """Whether this is a worker's process: numbers are used again."""
    try:
        return f"-m\0{CELL}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
