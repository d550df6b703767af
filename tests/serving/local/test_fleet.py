"""The local fleet, for real: its start, what it shows, what it survives, and that nothing stays.

One fleet serves the whole module, in order; its last test kills its supervisor.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from chimera.serving.local import fleet, remains
from chimera.serving.local.ports import free_port
from chimera.serving.local.stages import Stage, StageEvent, Status
from chimera.serving.local.state import Fleet, StateDir
from chimera.settings import Settings
from chimera.store.users import without_login
from tests.sharing import starting

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[3]
APP = "tests.serving.local.tiny_hub:build"
SECRETS = {
    "CHIMERA_API_KEY": "chi_secret-of-a-tenant",
    "CHIMERA_MODEL_API_KEY": "secret-of-the-model",
    "OPENAI_API_KEY": "secret-of-a-provider",
    "AWS_SECRET_ACCESS_KEY": "secret-of-a-cloud",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("state") / "fleet", http_port=free_port())


@pytest.fixture(scope="module")
def events() -> list[StageEvent]:
    return []


@pytest.fixture(scope="module")
def running(settings: Settings, events: list[StageEvent]) -> Iterator[Fleet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        try:
            with starting():
                started = fleet.up(settings, progress=events.append, app=APP)
            yield started
        finally:
            fleet.down(settings)


def answer(found: Fleet, *, timeout: float = 30) -> dict[str, Any]:
    with urllib.request.urlopen(found.url + "/anything", timeout=timeout) as response:
        body: dict[str, Any] = json.load(response)
    return body


def processes(settings: Settings) -> set[int]:
    return {process.pid for process in remains.find(StateDir(settings.state_dir))}


def listeners(pids: set[int]) -> set[IPv4Address | IPv6Address]:
    connections = psutil.net_connections("tcp")
    found = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.pid in pids}
    addresses = {ip_address(address) for address in found}
    return {getattr(address, "ipv4_mapped", None) or address for address in addresses}


def eventually(condition: Any, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)  # the state of other processes
    return False


def test_up_serves_http_and_tells_each_stage(running: Fleet, events: list[StageEvent]) -> None:
    assert answer(running)["pid"] > 0
    ready = [event.stage for event in events if event.status is Status.READY]
    assert set(ready) == set(Stage) - {Stage.NODE}
    assert ready[-1] is Stage.FLEET


def test_second_up_finds_the_first(settings: Settings, running: Fleet) -> None:
    assert fleet.up(settings, app=APP) == running
    assert fleet.find(settings) == running


def test_no_socket_of_the_fleet_listens_beyond_loopback(settings: Settings, running: Fleet) -> None:
    assert listeners(processes(settings)) == {ip_address("127.0.0.1")}


def test_replicas_see_files_of_secrets_and_no_secret(settings: Settings, running: Fleet) -> None:
    environment = answer(running)["environment"]
    shown = json.dumps(environment)
    password = running.redis_url.partition(":")[2].partition("@")[0]
    assert not [secret for secret in (*SECRETS.values(), password, running.api_key()) if secret in shown]
    # Each replica logs in as its role: what the operator's password opens is no file's and no variable's.
    address = without_login(running.redis_url)
    assert Path(environment["CHIMERA_REDIS_URL_FILE"]).read_text(encoding="utf-8") == address
    assert Path(environment["CHIMERA_REDIS_SECRET_FILE"]).is_file()
    assert Path(environment["CHIMERA_API_KEY_FILE"]).read_text(encoding="utf-8") == running.api_key()
    assert environment["CHIMERA_MODEL_URL"] == running.model_url


def test_files_of_the_fleet_are_private(settings: Settings, running: Fleet) -> None:
    state = StateDir(settings.state_dir)
    files = [state.fleet_file, state.api_key, state.admin_key, state.ray_token, *state.secrets.iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {stat.S_IMODE(d.stat().st_mode) for d in (state.path, state.secrets, state.short)} == {0o700}


def test_jobs_run_and_find_the_key(running: Fleet) -> None:
    script = "import os; print('mode', oct(os.stat(os.environ['CHIMERA_API_KEY_FILE']).st_mode & 0o777))"
    done = subprocess.run(
        [Path(sys.executable).with_name("ray"), "job", "submit", "--", sys.executable, "-c", script],
        env={**os.environ, **running.ray_environment()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "mode 0o600" in done.stdout, done.stdout + done.stderr


def test_killed_redis_comes_back_with_its_data(settings: Settings, running: Fleet) -> None:
    with redis.Redis.from_url(running.redis_url) as store:
        store.set("kept", "yes")
    running.processes["redis"].send(signal.SIGKILL)

    def value_is_back() -> bool:
        try:
            with redis.Redis.from_url(running.redis_url) as store:
                return bool(store.get("kept") == b"yes")
        except redis.RedisError:
            return False

    assert eventually(value_is_back)
    assert eventually(lambda: recorded(settings, "redis") != running.processes["redis"])


def test_killed_model_comes_back_at_its_address(settings: Settings, running: Fleet) -> None:
    running.processes["model"].send(signal.SIGKILL)
    assert eventually(lambda: recorded(settings, "model") != running.processes["model"])
    assert fleet.status(settings).alive["model"]
    assert fleet.find(settings) is not None


def test_a_call_waits_for_whoever_replaces_a_killed_replica(settings: Settings, running: Fleet) -> None:
    killed = answer(running)["pid"]
    os.kill(killed, signal.SIGKILL)
    assert answer(running, timeout=120)["pid"] != killed


def test_a_call_waits_for_the_next_head(settings: Settings, running: Fleet) -> None:
    before, head = answer(running)["pid"], recorded(settings, "ray")
    head.send(signal.SIGKILL)
    head.wait(10)
    assert eventually(lambda: recorded(settings, "ray") != head, seconds=120)
    assert answer(running, timeout=180)["pid"] != before
    assert eventually(lambda: fleet.find(settings) is not None, seconds=60)
    assert listeners(processes(settings)) == {ip_address("127.0.0.1")}


def test_no_proxy_of_serve_runs(settings: Settings, running: Fleet) -> None:
    lines = {psutil.Process(pid).cmdline()[0] for pid in processes(settings)}
    assert any(line.startswith("ray::ServeController") for line in lines), lines
    assert not [line for line in lines if "Proxy" in line]


def recorded(settings: Settings, name: str) -> Any:
    found = StateDir(settings.state_dir).read()
    return found.processes[name] if found else None


def test_fleet_at_rest_fits_its_memory(settings: Settings, running: Fleet) -> None:
    assert 0 < fleet.status(settings).memory_bytes < 2.5 * 2**30


def test_killed_supervisor_leaves_nothing(settings: Settings, running: Fleet) -> None:
    pids = processes(settings)
    assert len(pids) > 10
    running.supervisor.send(signal.SIGKILL)
    assert eventually(lambda: not processes(settings), seconds=15)
    assert not listeners(pids)
    assert fleet.find(settings) is None
    assert not fleet.down(settings)
