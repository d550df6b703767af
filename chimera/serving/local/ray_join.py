"""`ray start` for a node that joins a head on loopback: ``python -m chimera.serving.local.ray_join start …``

RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 keeps Ray on 127.0.0.1, and with it Ray refuses a second node, which it
takes for one on another machine. Here both are on this one: the refusal is lifted in this process alone, and
addresses stay what they are. Ray's own names: the version is pinned, a test starts a node.
"""

from __future__ import annotations

import importlib
from typing import Any

from chimera.serving.local.ports import LOOPBACK


def main() -> None:
    """Run Ray's own command line."""
    constants: Any = importlib.import_module("ray._private.ray_constants")
    services: Any = importlib.import_module("ray._private.services")
    constants.ENABLE_RAY_CLUSTER = True
    services.get_node_ip_address = lambda address=None: LOOPBACK
    importlib.import_module("ray.scripts.scripts").main()


if __name__ == "__main__":
    main()
