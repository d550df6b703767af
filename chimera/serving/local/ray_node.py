"""A Ray node that joins a head: one of a local fleet (CHIMERA_NODES), or a container of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

from chimera.serving.local import child
from chimera.serving.local.ports import LOOPBACK, chosen
from chimera.serving.local.process import spawn
from chimera.serving.local.ray_head import OBJECT_STORE_BYTES, RAY
from chimera.serving.local.state import StateDir

JOINS_ON_LOOPBACK = (sys.executable, "-m", "chimera.serving.local.ray_join")


class RayNode:
    """`ray start --address --block`; start it as often as you like.

    Args:
        name: tells it from others that share its directory; its log is called so.
        address: the head's GCS, host:port.
        resources: what it offers: ``swarm`` is a place for a worker.
        env: of the node and of all it starts.
        drain_s: how long it may take to go once it is told to: its workers hand back what they hold.
        host: the address by which the others reach it; one of loopback keeps all of it there.
        metrics_port: of its metrics; 0 chooses a free one.
        agent_port: of the agent that tells how it is; 0 chooses a free one.
        own_files: Ray's files of it are its own; else they are in the head's directory.
    """

    def __init__(
        self,
        state: StateDir,
        name: str,
        *,
        address: str,
        resources: Mapping[str, int],
        env: Mapping[str, str],
        drain_s: float,
        host: str = LOOPBACK,
        metrics_port: int = 0,
        agent_port: int = 0,
        own_files: bool = False,
    ) -> None:
        self.name = name
        self.log = state.logs / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.agent_url = ""
        """Where its agent answers, once it has been started."""
        self._address, self._resources, self._host = address, dict(resources), host
        self._metrics_port, self._agent_port = metrics_port, agent_port
        self._files = [f"--temp-dir={state.ray_temp}"] if own_files else []
        self._env = {**env, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(drain_s)}

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; it joins the head by itself, and dies with the thread that calls this."""
        self.process = spawn(self.command(), env=self._env, log=self.log)
        return self.process

    def command(self) -> list[str]:
        """What starts it; from now on `agent_url` is known."""
        metrics, agent = chosen(self._metrics_port, self._agent_port)
        self.agent_url = f"http://{self._host}:{agent}"
        return [
            *(JOINS_ON_LOOPBACK if self._host == LOOPBACK else RAY),
            *("start", "--block", "--disable-usage-stats", f"--address={self._address}"),
            *(f"--node-ip-address={self._host}", "--num-cpus=0", *self._files),
            *(f"--metrics-export-port={metrics}", f"--dashboard-agent-listen-port={agent}"),
            *("--min-worker-port=0", "--max-worker-port=0", "--include-log-monitor=false"),
            *(f"--object-store-memory={OBJECT_STORE_BYTES}",),
            f"--resources={json.dumps(self._resources)}",
        ]

    async def stop(self, *, grace_s: float = 0) -> None:
        """End it, with its fleet at once: its workers follow or are swept. Twice is fine.

        Args:
            grace_s: for its workers to hand back what they hold, when it goes alone.
        """
        await child.end(self.process, grace_s=grace_s)
