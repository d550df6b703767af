"""What `ray start` itself has no option for; it calls this through RAY_START_HOOK."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from chimera.serving.local.state import StateDir


def prepare(parameters: Any, head: bool) -> None:
    """Leave out the ray:// server, a process of 60 MB that a local fleet does not use; give each further node
    sockets of its own.

    Ray takes the first names that are free in the session's folder, which nodes of one machine share: of two
    that start at once one would find the other's socket there when it binds its own, and die.

    Args:
        parameters: Ray's `RayParams`, before anything is started.
        head: whether this is a head node.
    """
    if head:
        parameters.ray_client_server_port = None
    elif state := os.environ.get("CHIMERA_STATE_DIR"):
        own = StateDir(Path(state)).short / f"node-{os.urandom(4).hex()}"
        parameters.plasma_store_socket_name, parameters.raylet_socket_name = f"{own}.store", f"{own}.raylet"
