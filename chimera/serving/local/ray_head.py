"""A Ray head with its Serve application: of a local fleet, on loopback, or of a cluster of containers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from chimera.errors import BackendError
from chimera.serving.local import child
from chimera.serving.local.ports import LOOPBACK, chosen
from chimera.serving.local.process import spawn
from chimera.serving.local.state import StateDir

ATTEMPTS = 3
"""Ray gives its node 30 s to register, which a busy machine may miss."""

RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
"""Ray's own command line, of the Python that runs this."""
EVERYWHERE = "0.0.0.0"  # nosec B104 : where the head is a container's, whose ports nobody reaches by themselves

OBJECT_STORE_BYTES = 100_000_000
START_S, SERVE_S = 90.0, 120.0
RETIRE_S = 20.0
"""The application has this long to end by itself: what asks it to needs most of that for its imports."""


class RayHead:
    """`ray start --head --block` and what is deployed on it.

    Args:
        state: directories and the token.
        port: of Ray's GCS.
        dashboard_port: of the dashboard and Jobs server.
        places: how many workers it may run itself; 0 leaves them to other nodes.
        spares: how many spares it may run.
        env: the environment of the head and of all it starts.
        autoscaling: configuration of Ray's autoscaler, which then adds and ends nodes; None for none.
        on_retry: called with a sentence before a further attempt.
        host: the address by which other nodes reach it; one of loopback keeps all of it there.
        metrics_port: of its metrics; 0 chooses a free one.
        agent_port: of the agent that tells how the node is; 0 chooses a free one.
        start_s: an attempt that takes longer is given up; one that Ray gives up itself ends sooner.
    """

    def __init__(
        self,
        state: StateDir,
        *,
        port: int,
        dashboard_port: int,
        places: int,
        spares: int = 0,
        env: Mapping[str, str],
        on_retry: Callable[[str], None],
        autoscaling: Path | None = None,
        host: str = LOOPBACK,
        metrics_port: int = 0,
        agent_port: int = 0,
        start_s: float = START_S,
    ) -> None:
        self.address, self._state, self._env = f"{host}:{port}", state, env
        self._host, self._metrics_port, self._agent_port = host, metrics_port, agent_port
        self.dashboard_url = f"http://{LOOPBACK}:{dashboard_port}"
        self._port, self._dashboard_port, self._places = port, dashboard_port, places
        self._spares, self._autoscaling = spares, autoscaling
        self._on_retry, self._start_s = on_retry, start_s
        self._connected = False
        self.log, self.serve_log = state.logs / "ray.log", state.logs / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.deploying: asyncio.subprocess.Process | None = None

    async def prepare_deploy(self, app: str) -> None:
        """Start the process that deploys; it imports while the head comes up."""
        self.deploying = await self._deploy("--app", app)

    async def _deploy(self, *what: str) -> asyncio.subprocess.Process:
        with self.serve_log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "chimera.serving.deploy",
                *("--address", self.address, *what),
                env=dict(self._env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    async def start(self) -> None:
        """Start the head and wait until the deploying process has connected to its node.

        Raises:
            BackendError: not after three attempts; with the end of the log.
        """
        connected = asyncio.ensure_future(self._said("connected"))
        try:
            for attempt in range(1, ATTEMPTS + 1):
                self.process = spawn(self._command(), env=self._env, log=self.log)
                ended = asyncio.ensure_future(child.exited(self.process))
                await asyncio.wait(
                    {connected, ended}, timeout=self._start_s, return_when=asyncio.FIRST_COMPLETED
                )
                ended.cancel()
                if connected.done():
                    connected.result()
                    self._connected = True
                    return
                await child.end(self.process, grace_s=2)
                if attempt < ATTEMPTS:
                    self._on_retry(f"Ray did not start at attempt {attempt} of {ATTEMPTS}")
            raise BackendError(f"Ray did not start; {child.last_lines(self.log)}")
        finally:
            connected.cancel()

    async def serve(self, url: str) -> None:
        """Wait until the application is deployed and its ``/readyz`` answers 200.

        Raises:
            BackendError: it was refused or is not healthy in time; with the end of the log.
        """
        try:
            async with asyncio.timeout(SERVE_S):
                await self.deployed()
                await self._ready(url)
        except TimeoutError as exc:
            raise BackendError(
                f"the hub was not ready within {SERVE_S:g} s; {child.last_lines(self.serve_log)}"
            ) from exc

    async def deployed(self) -> None:
        """Wait until every part of the application is healthy, however long that takes.

        Raises:
            BackendError: it was refused; with the end of the log.
        """
        await self._said("deployed")

    async def retire(self) -> bool:
        """Let the application's parts finish, or hand back, what is under way, and end it.

        Returns:
            Whether none runs, or it has ended in time; what has not is left to `stop`.
        """
        if not self._connected or self.process is None or self.process.poll() is not None:
            return True
        await _kill(self.deploying)
        ending = await self._deploy("--end")
        try:
            async with asyncio.timeout(RETIRE_S):
                await ending.communicate()
        except TimeoutError:
            return False
        finally:
            await _kill(ending)
        return ending.returncode == 0

    async def stop(self) -> None:
        """End the head and what deploys; its workers and agents follow or are swept."""
        await _kill(self.deploying)
        await child.end(self.process, grace_s=4)

    async def _said(self, event: str) -> None:
        if self.deploying is None or self.deploying.stdout is None:
            raise BackendError("nothing deploys: call prepare_deploy first")
        async for line in self.deploying.stdout:
            if line == json.dumps({"event": event}).encode() + b"\n":
                return
        code = await self.deploying.wait()
        raise BackendError(f"deploying the hub ended with code {code}; {child.last_lines(self.serve_log)}")

    async def _ready(self, url: str) -> None:
        # `ray job submit` needs the dashboard too.
        while not await asyncio.to_thread(answers, url, "/readyz", HTTPStatus.OK):  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.1)  # another process' state
        while not await asyncio.to_thread(answers, self.dashboard_url, "/api/version"):  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.1)

    def _command(self) -> list[str]:
        metrics, agent = chosen(self._metrics_port, self._agent_port)
        shown_at = LOOPBACK if self._host == LOOPBACK else EVERYWHERE
        offered = {"hub": 1, "swarm": self._places, "spare": self._spares}
        resources = {name: count for name, count in offered.items() if count}
        return [
            *RAY,
            *("start", "--head", "--block", "--disable-usage-stats"),
            f"--autoscaling-config={self._autoscaling}" if self._autoscaling else "--no-monitor",
            *(f"--port={self._port}", f"--node-ip-address={self._host}"),
            *(f"--dashboard-host={shown_at}", f"--dashboard-port={self._dashboard_port}"),
            *("--include-dashboard=true", "--include-log-monitor=false"),
            *(f"--metrics-export-port={metrics}", f"--dashboard-agent-listen-port={agent}"),
            # The kernel chooses workers' ports: Ray's fixed range is every other fleet's range too.
            *("--min-worker-port=0", "--max-worker-port=0"),
            *(f"--object-store-memory={OBJECT_STORE_BYTES}", f"--resources={json.dumps(resources)}"),
            *("--num-cpus=1", f"--temp-dir={self._state.ray_temp}"),
        ]


async def _kill(process: asyncio.subprocess.Process | None) -> None:
    """End it at once; None and the dead are fine."""
    if process is not None and process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def answers(url: str, path: str, status: HTTPStatus | None = None) -> bool:
    """Whether an HTTP server answers there, with this status if one is given."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", path)
        found = connection.getresponse().status
        return status is None or found == status
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
