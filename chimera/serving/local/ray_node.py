"""A Ray node beside the head of a local fleet: where its workers run when CHIMERA_NODES asks for nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

from chimera.serving.local import child
from chimera.serving.local.ports import LOOPBACK, free_ports
from chimera.serving.local.process import spawn
from chimera.serving.local.ray_head import OBJECT_STORE_BYTES
from chimera.serving.local.state import StateDir


class RayNode:
    """`ray start --address --block`; start it as often as you like.

    Args:
        number: tells it from the others, from 1.
        address: the head's GCS, host:port.
        places: how many workers it may run.
        env: the head's environment.
        drain_s: how long it may take to go once it is told to: its workers hand back what they hold.
    """

    def __init__(
        self,
        state: StateDir,
        number: int,
        *,
        address: str,
        places: int,
        env: Mapping[str, str],
        drain_s: float,
    ) -> None:
        self.name = f"node-{number}"
        self.log = state.logs / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._address, self._places = address, places
        self._env = {**env, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(drain_s)}

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; it joins the head by itself, and dies with the thread that calls this."""
        metrics, agent = free_ports(2)
        command = [
            *(sys.executable, "-m", "chimera.serving.local.ray_join"),
            *("start", "--block", "--disable-usage-stats", f"--address={self._address}"),
            *(f"--node-ip-address={LOOPBACK}", "--num-cpus=0"),
            *(f"--metrics-export-port={metrics}", f"--dashboard-agent-listen-port={agent}"),
            *("--min-worker-port=0", "--max-worker-port=0", "--include-log-monitor=false"),
            *(f"--object-store-memory={OBJECT_STORE_BYTES}",),
            f"--resources={json.dumps({'swarm': self._places})}",
        ]
        self.process = spawn(command, env=self._env, log=self.log)
        return self.process

    async def stop(self) -> None:
        """End it with its fleet: its workers follow or are swept, their work is given back. Twice is fine."""
        await child.end(self.process, grace_s=0)
