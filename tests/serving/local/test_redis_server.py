"""The embedded Redis, for real: every test runs its own server."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chimera.errors import BackendError
from chimera.serving.local.ports import free_port, is_free
from chimera.serving.local.process import ProcessId
from chimera.serving.local.redis_server import RedisServer, ping, with_allocator


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


def client(server: RedisServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_server_starts_with_less_than_a_second_of_work(tmp_path: Path) -> None:
    began = time.process_time()
    with RedisServer(tmp_path) as server:
        own = psutil.Process(server.process.pid).cpu_times()
        assert time.process_time() - began + own.user + own.system < 1


def test_server_listens_on_loopback_alone(server: RedisServer) -> None:
    listening = psutil.Process(server.process.pid).net_connections("tcp")
    assert {c.laddr.ip for c in listening if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_server_asks_for_its_password(server: RedisServer) -> None:
    assert ping(server.port, server.password)
    assert not ping(server.port, "wrong")
    no_retry = Retry(NoBackoff(), 0)
    with redis.Redis(port=server.port, retry=no_retry) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_password_is_on_no_command_line_and_in_a_private_file(server: RedisServer) -> None:
    assert server.password not in " ".join(psutil.Process(server.process.pid).cmdline())
    assert stat.S_IMODE((server.directory / "valkey.conf").stat().st_mode) == 0o600
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700


def test_server_never_evicts_and_writes_no_snapshots(server: RedisServer) -> None:
    with client(server) as store:
        assert store.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert store.config_get("save") == {"save": ""}
        assert store.config_get("appendfsync") == {"appendfsync": "always"}


def test_acknowledged_write_survives_a_kill(server: RedisServer) -> None:
    with client(server) as store:
        store.set("key", "value")
    url = server.url
    server.kill()
    server.start()
    assert server.url == url
    with client(server) as store:
        assert store.get("key") == "value"


def test_stop_ends_the_process_and_may_be_called_twice(tmp_path: Path) -> None:
    server = RedisServer(tmp_path).start()
    process = ProcessId.of(server.process.pid)
    server.stop()
    server.stop()
    assert process is not None
    assert not process.is_alive()
    assert is_free("127.0.0.1", server.port)


def test_a_taken_port_is_reported_with_the_log(server: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="Address already in use"):
        RedisServer(tmp_path / "other", port=server.port).start()


def test_two_servers_live_side_by_side(server: RedisServer, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "other") as other, client(other) as store:
        store.set("key", "value")
        with client(server) as first:
            assert first.get("key") is None


def test_paths_and_passwords_with_odd_characters_work(tmp_path: Path) -> None:
    with RedisServer(tmp_path / 'a "b" c\\d', password='q"u\\o te#') as server:
        assert ping(server.port, 'q"u\\o te#')


def test_further_directives_are_used(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, maxmemory_bytes=1 << 30, directives={"databases": "2"})
    with server, client(server) as store:
        assert store.config_get("databases", "maxmemory") == {"databases": "2", "maxmemory": "1073741824"}


def test_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    port = free_port()
    script = (
        "import pathlib, sys, time\n"
        "from chimera.serving.local.redis_server import RedisServer\n"
        "server = RedisServer(pathlib.Path(sys.argv[1]), port=int(sys.argv[2])).start()\n"
        "print(server.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), str(port)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = ProcessId.of(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        assert child is not None
        assert child.wait(5)


def test_importing_the_server_imports_no_ray() -> None:
    code = "import sys, chimera.serving.local.redis_server; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the library comes with Ray's wheel for Linux")
def test_the_server_allocates_by_jemalloc_beside_what_else_is_preloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libc.so.6")
    with RedisServer(tmp_path) as server:
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text(encoding="utf-8")
    assert "libjemalloc" in mapped
    assert with_allocator({"LD_PRELOAD": "x"})["LD_PRELOAD"].endswith(" x")
