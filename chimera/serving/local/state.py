"""The state directory: what one local fleet keeps on disk, and who may touch it.

    fleet.json   what runs (0600)                redis/   the append-only file
    lock         held as long as a fleet lives   logs/    of every process
    api.key      the local tenant's key          blobs/   inputs and archives
    admin.key    the whole fleet's key           secrets/ for the hub, one file each
    ray.token    Ray's access token
    redis.secret what passwords in Redis are derived from

Ray's own files live under /tmp instead: its socket paths may not exceed 107 bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from chimera.errors import ConfigurationError
from chimera.serving.local.process import ProcessId

TENANT = "local"
"""The tenant of a local fleet's key."""


class Fleet(BaseModel):
    """A local fleet, as `fleet.json` records it.

    Attributes:
        id: the value of CHIMERA_FLEET_ID in the environment of its processes.
        ready: whether all of it is up; else it is starting, or a part of it is being brought back.
        processes: the supervisor and its children by name.
        url: the API; its OpenAPI page is `url` + ``/docs``.
        dashboard_url: Ray's dashboard and Jobs server, which ask for the token in `ray_token_file`.
        ray_address: host:port of Ray's GCS.
        redis_url: with the operator's password.
        redis_users: `roles` when the parts of the fleet log in to it each as their own user.
        model_url: the embedded model's endpoint, or "" when another one is used.
        agents: files and modules its agents come from, beside those of installed packages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    version: str
    ready: bool = False
    started_at: datetime
    processes: dict[str, ProcessId]
    url: str
    dashboard_url: str
    ray_address: str
    redis_url: str
    redis_users: Literal["single", "roles"] = "single"
    model_url: str = ""
    agents: tuple[str, ...] = ()
    tenant: str = TENANT
    api_key_file: Path
    ray_token_file: Path
    directory: Path

    @property
    def supervisor(self) -> ProcessId:
        """The process whose life is the fleet's."""
        return self.processes["supervisor"]

    @property
    def logs(self) -> Path:
        """Logs of what the supervisor starts: Redis, the model, Ray; they outlive the fleet."""
        return StateDir(self.directory).logs

    @property
    def admin_key_file(self) -> Path:
        """The key of the whole fleet, of every scope."""
        return StateDir(self.directory).admin_key

    @property
    def worker_logs(self) -> Path:
        """Logs of the hub and the workers, `worker-*.out`; they go with the fleet."""
        return StateDir(self.directory).ray_temp / "session_latest" / "logs"

    def api_key(self) -> str:
        """The local tenant's key."""
        return self.api_key_file.read_text(encoding="utf-8").strip()

    def ray_environment(self) -> dict[str, str]:
        """What `ray job submit`, `serve` and Ray drivers need to reach this fleet."""
        return {
            "RAY_ADDRESS": self.dashboard_url,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.ray_token_file),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }


class StateDir:
    """Paths, secrets and the lock of one fleet's directory.

    Args:
        path: CHIMERA_STATE_DIR; nothing is made before `prepare`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        digest = hashlib.sha256(str(self.path).encode()).hexdigest()[:8]
        self.id = f"{os.getuid()}-{digest}"
        # Ray's sockets need a short path. It is ours alone: made 0700, its owner checked.
        self.short = Path(f"/tmp/chimera-{self.id}")  # nosec B108 : ours alone, see above
        self.ray_temp = self.short / "r"  # Ray opens its own directory to everybody: ours is around it
        self.door = self.short / "door"
        self.cells = self.short / "cells"
        self.fleet_file = self.path / "fleet.json"
        self.lock_file = self.path / "lock"
        self.redis = self.path / "redis"
        self.logs = self.path / "logs"
        self.blobs = self.path / "blobs"
        self.secrets = self.path / "secrets"
        self.progress = self.logs / "supervisor.ndjson"
        self.api_key = self.path / "api.key"
        self.admin_key = self.path / "admin.key"
        self.ray_token = self.path / "ray.token"
        self.redis_secret = self.path / "redis.secret"

    def prepare(self) -> None:
        """Make what is missing, readable by its owner alone.

        Raises:
            ConfigurationError: a directory cannot be made, or belongs to somebody else.
        """
        self.make_directories()
        _private_directory(self.redis)
        for key in (self.api_key, self.admin_key):
            if not key.exists():
                write_private(key, f"chi_{secrets.token_urlsafe(32)}")
        if not self.ray_token.exists():
            write_private(self.ray_token, secrets.token_hex(32))
        if not self.redis_secret.exists():
            write_private(self.redis_secret, secrets.token_hex(32))

    def make_directories(self) -> None:
        """Make those that every node has, readable by their owner alone.

        Raises:
            ConfigurationError: one cannot be made, or belongs to somebody else.
        """
        for directory in (self.path, self.logs, self.blobs, self.secrets, self.short):
            _private_directory(directory)

    def secret(self, name: str, value: str) -> Path:
        """Keep a secret in a file of its own, for ``CHIMERA_<NAME>_FILE``."""
        path = self.secrets / name
        write_private(path, value)
        return path

    def read(self) -> Fleet | None:
        """The recorded fleet, alive or not; None where there is none, or of another version.

        Raises:
            ConfigurationError: the directory is somebody else's.
        """
        try:
            return Fleet.model_validate_json(self.fleet_file.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        except OSError as exc:
            raise _unusable(self.path, exc) from exc

    def write(self, fleet: Fleet) -> None:
        """Record it, atomically."""
        write_private(self.fleet_file, fleet.model_dump_json(indent=2))

    def forget(self) -> None:
        """Remove the record and Ray's temporary files; data, keys and logs stay."""
        self.fleet_file.unlink(missing_ok=True)
        shutil.rmtree(self.short, ignore_errors=True)

    @contextmanager
    def locked(self, *, wait_s: float = 0.0) -> Iterator[int | None]:
        """Hold the fleet's lock: the descriptor, or None when somebody else keeps it beyond `wait_s`.

        The kernel frees it when its last holder is gone, however that one went.
        """
        _private_directory(self.path)
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor if _flock(descriptor, time.monotonic() + wait_s) else None
        finally:
            os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, in one step: readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def _flock(descriptor: int, deadline: float) -> bool:
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)  # the kernel can wait for a lock, but not with a limit


def _private_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as exc:
        raise _unusable(path, exc) from exc
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"{path} is no directory: set CHIMERA_STATE_DIR to a directory of yours")
    if found.st_uid != os.geteuid():
        raise ConfigurationError(f"{path} is somebody else's: set CHIMERA_STATE_DIR to a directory of yours")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


def _unusable(path: Path, exc: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be used ({exc.strerror}): set CHIMERA_STATE_DIR to a directory of yours"
    )
