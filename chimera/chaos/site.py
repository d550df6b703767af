"""Where a drill takes place: a fleet of its own with a metered model endpoint, or one that is named."""

from __future__ import annotations

import asyncio
import os
import subprocess  # nosec B404 (our own command and endpoint)
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from chimera.chaos.calls import MODEL, PRICES_USD
from chimera.chaos.faults import Fault
from chimera.errors import BackendError, ConfigurationError
from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.serving.local.process import spawn
from chimera.serving.local.state import Fleet, StateDir
from chimera.settings import Settings, load

UP_S = 240.0
HOLD_TTL_S, MODEL_TIMEOUT_S = 8, 4
AGENTS = "chimera.chaos.agents"
MODEL_FAULTS = {Fault.MODEL_HANGS, Fault.MODEL_REFUSES}


@dataclass(frozen=True, slots=True)
class Site:
    """A fleet to harm.

    Attributes:
        endpoint: the metered model's address; "" when the fleet's calls go elsewhere: then none is made.
    """

    fleet: Fleet
    settings: Settings
    endpoint: str

    @property
    def state(self) -> StateDir:
        """The fleet's directory."""
        return StateDir(self.fleet.directory)

    def doable(self, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
        """Those of the faults that can be done here."""
        nodes = any(name.startswith("node-") for name in self.fleet.processes)
        redis = "redis" in self.fleet.processes
        return tuple(
            fault
            for fault in faults
            if (self.endpoint or fault not in MODEL_FAULTS)
            and (nodes or fault is not Fault.NODE_KILL)
            and (redis or fault not in {Fault.REDIS_KILL, Fault.REDIS_STOP})
        )

    async def ended(self) -> None:
        """Wait until the fleet's supervisor is gone, which no fault asks for."""
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        try:
            descriptor = os.pidfd_open(self.fleet.supervisor.pid)
        except ProcessLookupError:
            return
        loop.add_reader(descriptor, gone.set)
        try:
            if self.fleet.supervisor.is_alive():
                await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


@contextmanager
def own(directory: Path, faults: tuple[Fault, ...], *, fast_rescue: bool) -> Iterator[Site]:
    """A fleet and an endpoint in a directory, until the block ends.

    Raises:
        BackendError: one of them does not start.
    """
    port = free_port()
    endpoint = f"http://{LOOPBACK}:{port}"
    environment = {
        "CHIMERA_STATE_DIR": str(directory / "fleet"),
        "CHIMERA_HTTP_PORT": str(free_port()),
        "CHIMERA_AGENTS": AGENTS,
        "CHIMERA_MODEL": MODEL,
        "CHIMERA_MODEL_URL": f"{endpoint}/v1",
        "CHIMERA_MODEL_TIMEOUT_S": str(MODEL_TIMEOUT_S),
        "CHIMERA_HOLD_TTL_S": str(HOLD_TTL_S),
        "CHIMERA_ACTION_HOSTS": f"{LOOPBACK}:{port}",
        "CHIMERA_FSYNC": "always",
        "CHIMERA_FAST_RESCUE": str(fast_rescue),
        "CHIMERA_MAX_WORKERS": "4",
        "CHIMERA_NODES": "2" if Fault.NODE_KILL in faults else "0",
        # Two workers for each tenant's load, each with slots to spare for what the other one drops.
        "CHIMERA_SLOTS": "48",
        # Most of what the checker reads has been through the archive.
        "CHIMERA_RECORDER_FLUSH_S": "2",
        "CHIMERA_RECORDER_LIVE": "500",
        **PRICES_USD,
    }
    with _endpoint(port, directory), _up(environment) as fleet:
        _answers(endpoint)
        yield Site(fleet, load(redis_url=fleet.redis_url, state_dir=directory / "fleet"), endpoint)


def named(url: str, settings: Settings) -> Site:
    """The local fleet at an address, which must be this machine's.

    Raises:
        ConfigurationError: there is none under CHIMERA_STATE_DIR, or it does not know the drill's agents.
    """
    fleet = StateDir(settings.state_dir).read()
    if fleet is None or fleet.url != url.rstrip("/") or not fleet.supervisor.is_alive():
        raise ConfigurationError(
            f"no local fleet at {url} is recorded in {settings.state_dir}: a drill signals processes, so it "
            "harms only a fleet of this machine, whose CHIMERA_STATE_DIR it is given"
        )
    environ = psutil.Process(fleet.processes["ray"].pid).environ()
    if AGENTS not in environ.get("CHIMERA_AGENTS", ""):
        raise ConfigurationError(
            f"the fleet at {url} has no agents for a drill: start it with CHIMERA_AGENTS={AGENTS} "
            "(beside its own ones)"
        )
    return Site(fleet, load(redis_url=fleet.redis_url, state_dir=settings.state_dir), "")


@contextmanager
def _endpoint(port: int, directory: Path) -> Iterator[None]:
    arguments = ["-m", "chimera.chaos.endpoint", "--port", str(port)]
    for name in ("calls", "hooks", "probes"):
        arguments += [f"--{name}", str(directory / f"{name}.ndjson")]
    process = spawn([sys.executable, *arguments], log=directory / "endpoint.log")
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _up(chosen: dict[str, str]) -> Iterator[Fleet]:
    """A local fleet, through the command that people use."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")}

    def chimera(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # nosec B603 : our own commands, as words
            [sys.executable, "-c", "from chimera.cli.main import main; main()", command],
            env=others | chosen,
            capture_output=True,
            text=True,
            timeout=UP_S,
            check=False,
        )

    try:
        done = chimera("up")
        fleet = StateDir(Path(chosen["CHIMERA_STATE_DIR"])).read()
        if done.returncode or fleet is None:
            raise BackendError(f"the drill's fleet did not start: {done.stderr.strip()}")
        yield fleet
    finally:
        chimera("down")


def _answers(url: str) -> None:
    transport = httpx.HTTPTransport(retries=50)  # it backs off: another process' start
    with httpx.Client(trust_env=False, timeout=2, transport=transport) as client:
        try:
            client.get(f"{url}/docs")
        except httpx.HTTPError as exc:
            raise BackendError(f"the metered endpoint does not answer ({exc}): see endpoint.log") from exc
