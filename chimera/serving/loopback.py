"""Keeps Serve replicas on loopback.

Each replica opens a gRPC server on every interface for calls between replicas. It asks for Ray's
token, but a laptop's fleet should not listen to its network at all. Serve has no setting for the
address, so this wraps the one private function that binds it; Ray's version is pinned, and a test
looks at the sockets that really listen.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

ANYWHERE = "[::]"
LOOPBACK = "127.0.0.1"


def bind_loopback() -> None:
    """Make this replica's servers listen on loopback; call it first in a deployment's ``__init__``.

    Only where the cluster is loopback alone (as a local fleet's head says in the environment):
    elsewhere replicas on other nodes must reach this one. Twice is fine.
    """
    if os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") != "0":
        return
    # By name, for it is private and untyped; a replica has it loaded already.
    replica: Any = importlib.import_module("ray.serve._private.replica")
    original = replica.add_port_to_grpc_server
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def on_loopback(server: Any, address: str) -> Any:
        return original(server, address.replace(ANYWHERE, LOOPBACK))

    replica.add_port_to_grpc_server = on_loopback
