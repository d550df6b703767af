"""What `ray start` itself has no option for; it calls this through RAY_START_HOOK."""

from __future__ import annotations

from typing import Any


def prepare(parameters: Any, head: bool) -> None:
    """Leave out the ray:// server: a process of 60 MB that a local fleet does not use.

    Args:
        parameters: Ray's `RayParams`, before anything is started.
        head: whether this is a head node.
    """
    if head:
        parameters.ray_client_server_port = None
