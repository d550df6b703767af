"""A spoke for real: a hub's fleet, and beside it a Ray cluster of one tenant's own, with its login alone."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import httpx
import psutil
import pytest

from chimera.chaos.calls import MODEL, PRICES_USD
from chimera.chaos.site import AGENTS, own
from chimera.core.views import FleetView, WorkerView
from chimera.serving.local.environment import RAY
from chimera.serving.local.ports import LOOPBACK, free_ports
from chimera.serving.local.process import ProcessId, end, spawn
from chimera.serving.local.ray_head import ATTEMPTS
from tests.acceptance.conftest import BIN, LiveFleet, Shell, clean, eventually
from tests.sharing import starting

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TENANT = "acme"
STARTED = "Ray runtime started."


def inputs(seconds: float, count: int = 2) -> list[dict[str, Any]]:
    return [{"n": n, "seconds": seconds, "pays": True, "fails": False, "hook": ""} for n in range(count)]


@contextmanager
def cluster(directory: Path, environment: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """A Ray head with one place for a worker: its process, and its address."""
    port, dashboard, metrics, agent = free_ports(4)
    temp = Path("/tmp") / f"spoke-{os.getpid()}"  # names of sockets must be short
    command = [
        *(sys.executable, "-c", "from ray.scripts.scripts import main; main()"),
        *("start", "--head", "--block", "--disable-usage-stats", "--no-monitor", f"--port={port}"),
        *(f"--node-ip-address={LOOPBACK}", f"--dashboard-host={LOOPBACK}", f"--dashboard-port={dashboard}"),
        *("--include-dashboard=false", "--include-log-monitor=false", "--num-cpus=1"),
        *(f"--metrics-export-port={metrics}", f"--dashboard-agent-listen-port={agent}"),
        *("--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000"),
        *(f"--resources={json.dumps({'swarm': 1})}", f"--temp-dir={temp}"),
    ]
    log = directory / "ray.log"
    try:
        for _ in range(ATTEMPTS):
            head = spawn(command, env=dict(environment), log=log)
            if eventually(partial(_decided, head, log), 90) and head.poll() is None:
                break
            _ended(head)
        assert STARTED in log.read_text(), log.read_text()
        yield head.pid, f"{LOOPBACK}:{port}"
    finally:
        _ended(head)
        rmtree(temp, ignore_errors=True)


def _decided(head: subprocess.Popen[bytes], log: Path) -> bool:
    """It runs; or it has ended, for Ray gives a node 30 s to register, which a busy machine may miss."""
    return STARTED in log.read_text(encoding="utf-8") or head.poll() is not None


def _ended(head: subprocess.Popen[bytes]) -> None:
    if head.poll() is None:
        family = [ProcessId.of(one.pid) for one in psutil.Process(head.pid).children(recursive=True)]
        end([one for one in (ProcessId.of(head.pid), *family) if one], grace_s=10)
    head.wait()


class Spokes:
    """Starts `chimera spoke` again and again; all that they say is in one file."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment, self._log = dict(environment), log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        before = self.said("spoke.ready")
        self.process = spawn([str(BIN / "chimera"), "spoke"], env=self._environment, log=self._log)
        assert eventually(lambda: len(self.said("spoke.ready")) > len(before), 120), self._log.read_text()
        return self.process

    def kill(self) -> None:
        """SIGKILL; whatever it is about."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event]

    def lines(self) -> list[dict[str, Any]]:
        """All but what Ray's own library writes, in C++."""
        text = self._log.read_text(encoding="utf-8") if self._log.exists() else ""
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line) for line in whole if line.startswith("{")]


def workers(url: str, key: str) -> list[WorkerView]:
    """Live workers of the key's tenant."""
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{url}/v1/fleet", headers=headers, timeout=10).raise_for_status()
    return list(FleetView.model_validate(answer.json()).workers)


def descends(worker: int, ancestor: int) -> bool:
    return worker in {one.pid for one in psutil.Process(ancestor).children(recursive=True)}


def cause(acme: Shell, mission_id: str) -> str:
    said = acme("task", "why", f"{mission_id}.0", "-o", "json")
    return str(said.document["cause"]) if said.code == 0 else ""


def test_a_tenants_work_is_done_on_its_own_cluster_by_its_spoke_alone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        token = tmp_path / "ray-token"
        token.write_text(secrets.token_hex(32), encoding="utf-8")
        token.chmod(0o600)
        ray = {**clean(), **RAY, "RAY_AUTH_TOKEN_PATH": str(token)}
        with starting():
            head, address = stack.enter_context(cluster(tmp_path, ray))
            site = stack.enter_context(own(tmp_path, (), fast_rescue=True))
        fleet = LiveFleet(tmp_path, {**clean(), "CHIMERA_STATE_DIR": str(tmp_path / "fleet")})
        key = fleet("tenant", "add", TENANT).ok().out.strip()
        acme = Shell(tmp_path, {**clean(), "CHIMERA_URL": site.fleet.url, "CHIMERA_API_KEY": key})
        there = partial(workers, site.fleet.url, key)

        # Asked for, and away: its work waits, and says for what.
        fleet("tenant", "set", TENANT, "--spoke").ok()
        mission = acme.mission(agent="chaos-drill", inputs=inputs(0.1))
        first = acme("mission", "submit", mission).ok().out.strip()
        assert eventually(lambda: cause(acme, first) == "spoke")

        url = tmp_path / "redis-url"
        url.write_text(fleet("tenant", "login", TENANT).ok().out, encoding="utf-8")
        spokes = Spokes(
            {
                **ray,
                **PRICES_USD,
                "RAY_ADDRESS": address,
                "CHIMERA_SPOKE_TENANT": TENANT,
                "CHIMERA_SPOKE_GRACE_S": "10",
                "CHIMERA_REDIS_URL_FILE": str(url),
                "CHIMERA_STATE_DIR": str(tmp_path / "of-the-spoke"),
                "CHIMERA_AGENTS": AGENTS,
                "CHIMERA_MODEL": MODEL,
                "CHIMERA_MODEL_URL": f"{site.endpoint}/v1",
                "CHIMERA_MAX_WORKERS": "1",
                "CHIMERA_SLOTS": "8",
            },
            tmp_path / "spoke.log",
        )
        stack.callback(spokes.kill)
        spokes.start()
        watched = acme("mission", "watch", first, "-o", "json", timeout_s=180).ok().lines[-1]["mission"]
        assert (watched["counts"]["ACCEPTED"], watched["spent_microusd"] > 0) == (2, True)
        (worker,) = there()
        assert descends(worker.pid, head)

        # The neighbour stays on the hub.
        fleet("run", fleet.mission("own.json", agent="chaos-drill", inputs=inputs(0.1)), timeout_s=180).ok()
        (neighbour,) = workers(site.fleet.url, site.fleet.api_key())
        assert not descends(neighbour.pid, head)

        # The spoke is killed, and a worker with it: nobody else starts one, and the next spoke does.
        slow = acme.mission("slow.json", agent="chaos-drill", inputs=inputs(3.0), max_attempts=3)
        second = acme("mission", "submit", slow).ok().out.strip()
        assert eventually(lambda: any(one.busy for one in there()))
        spokes.kill()
        os.kill(worker.pid, signal.SIGKILL)
        assert eventually(lambda: cause(acme, second) == "spoke")
        spokes.start()
        watched = acme("mission", "watch", second, "-o", "json", timeout_s=180).ok().lines[-1]["mission"]
        assert (watched["counts"]["ACCEPTED"], watched["tallies"]) == (2, {"crashes": 2})

        # One that follows finds its workers, and is told to end: they leave, and so does it.
        spokes.kill()
        (worker,) = there()
        process = ProcessId.of(worker.pid)
        assert process is not None
        last = spokes.start()
        assert eventually(lambda: any(one["pid"] == last.pid for one in spokes.said("leader.elected")))
        assert process.is_alive()
        last.terminate()
        assert last.wait(60) == 0
        assert there() == []
        assert process.wait(30)
        assert {line["tenant"] for line in spokes.lines()} == {TENANT}
