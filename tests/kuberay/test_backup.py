"""The runbook of docs/kubernetes.md for backup and restore, followed with its own scripts.

Redis works meanwhile, and the blobs are real. `redis-cli` is not on every machine: here one of the same words
stands in (CLI).
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chimera.core.mission import MissionStatus
from chimera.runtime.base import Base, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from tests.kuberay.manifests import KUBERAY
from tests.store import history

SCRIPTS = KUBERAY / "base/redis"
TENANT = "acme"
CLI = f"""#!{sys.executable}
import argparse, os, sys, redis
from redis.backoff import NoBackoff
from redis.retry import Retry
words = argparse.ArgumentParser(add_help=False)
for flag in ("-e", "--no-auth-warning", "--raw"):
    words.add_argument(flag, action="store_true")
words.add_argument("-h")
words.add_argument("-p", type=int)
words.add_argument("command", nargs="+")
asked = words.parse_args()
once = Retry(NoBackoff(), 0)
password = os.environ["REDISCLI_AUTH"]
client = redis.Redis(host=asked.h, port=asked.p, password=password, decode_responses=True, retry=once)
try:
    told = client.execute_command(*asked.command)
except redis.RedisError as exc:
    print(exc, file=sys.stderr)
    sys.exit(1 if asked.e else 0)
finally:
    client.close()
between = ":" if asked.command[0] == "INFO" else chr(10)
if isinstance(told, dict):
    told = chr(10).join(f"{{key}}{{between}}{{value}}" for key, value in told.items())
print(told)
"""
"""As much of `redis-cli` as the scripts use, its answers in the same form."""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory for PATH that has a `redis-cli`."""
    directory = tmp_path / "tools"
    directory.mkdir()
    (directory / "redis-cli").write_text(CLI, encoding="utf-8")
    (directory / "redis-cli").chmod(0o755)
    return directory


def at(server: RedisServer, tools: Path, password: Path) -> dict[str, str]:
    """The environment of the scripts, beside that server."""
    password.write_text(server.password, encoding="utf-8")
    return {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "REDIS_DATA": str(server.directory),
        "REDIS_PORT": str(server.port),
        "REDIS_PASSWORD_FILE": str(password),
    }


async def script(name: str, env: Mapping[str, str], given: bytes = b"") -> tuple[int | None, bytes, str]:
    """A script of the manifests → its exit code, what it wrote, what it said."""
    running = await asyncio.create_subprocess_exec(
        *("sh", str(SCRIPTS / name)),
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await running.communicate(given)
    return running.returncode, out, err.decode()


async def verify(settings: Settings, *words: str) -> tuple[int | None, Any]:
    """`chimera recorder verify`, as the operator → its exit code, and what it found of the tenant."""
    assert settings.redis_url is not None
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chimera", "recorder", "verify", "--tenant", TENANT, *words, "-o", "json"),
        env={
            "PATH": os.environ["PATH"],
            "CHIMERA_REDIS_URL": settings.redis_url.get_secret_value(),
            "CHIMERA_BLOB_URL": settings.blob_location,
            "CHIMERA_STATE_DIR": str(settings.state_dir),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await running.communicate()
    assert out, err.decode()
    return running.returncode, json.loads(out)[0]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Base]:
    base = await open_base(settings)
    try:
        yield base
    finally:
        await base.close()


async def completed(base: Base, mission_id: str) -> bool:
    """Whether a mission is there and done."""
    record = await base.of(TENANT).missions.get(mission_id)
    return record.status is MissionStatus.COMPLETED


@pytest.mark.parametrize("archived_between", [False, True], ids=["", "archived between the two copies"])
async def test_what_was_backed_up_is_whole_after_a_restore_and_work_goes_on(
    tmp_path: Path, tools: Path, archived_between: bool
) -> None:
    blobs, copied = tmp_path / "blobs", tmp_path / "copied"
    with RedisServer(tmp_path / "before", fsync="everysec") as server:
        settings = load(redis_url=server.url, state_dir=tmp_path, blob_url=str(blobs))
        env = at(server, tools, tmp_path / "password")
        async with opened(settings) as base:
            await base.tenants.add(TENANT)
            await history.mission(base, TENANT, "done")
            await history.archive(base, TENANT)
            await history.mission(base, TENANT, "only-in-redis")
            code, found = await verify(settings)
            assert (code, found["wrong"]) == (0, [])
            anchor = found["anchor"]

            # Redis first, and it works meanwhile; then the blobs.
            copying = asyncio.create_task(script("backup.sh", env))
            while not copying.done():
                await history.write(base, TENANT, 5)
            code, archive, said = await copying
            assert code == 0, said
            kept = await base.redis.config_get("auto-aof-rewrite-percentage")
            assert int(kept["auto-aof-rewrite-percentage"]) == 100
            if archived_between:
                await history.archive(base, TENANT)
            shutil.copytree(blobs, copied)

            # What comes now is lost with the machine.
            await history.mission(base, TENANT, "too-late")
            await history.archive(base, TENANT)
        server.kill()
    shutil.rmtree(blobs)

    after = tmp_path / "after"
    after.mkdir()
    restoring = {**env, "REDIS_DATA": str(after)}
    code, _, said = await script("restore.sh", restoring, archive)
    assert code == 0, said
    with RedisServer(after, fsync="everysec", password=server.password) as restored:
        settings = load(redis_url=restored.url, state_dir=tmp_path, blob_url=str(copied))
        async with opened(settings) as base:
            assert await completed(base, "done")
            assert await completed(base, "only-in-redis")
            # The hub's archivist joins archive and stream as soon as it leads, in a new epoch.
            await history.archive(base, TENANT)
            code, found = await verify(settings, "--from", anchor["position"], anchor["hash"])
            assert (code, found["wrong"]) == (0, [])
            await history.mission(base, TENANT, "new")
            assert await completed(base, "new")
            await history.archive(base, TENANT)
            assert (await verify(settings))[0] == 0


async def rewriting(base: Base) -> int:
    """From which growth on Redis writes its append-only file anew, per cent; 0: never."""
    return int((await base.redis.config_get("auto-aof-rewrite-percentage"))["auto-aof-rewrite-percentage"])


async def test_a_backup_that_is_ended_midway_leaves_redis_rewriting_and_a_second_one_does_not_disturb_it(
    tmp_path: Path, tools: Path
) -> None:
    with RedisServer(tmp_path / "data", fsync="everysec") as server:
        env = at(server, tools, tmp_path / "password")
        async with opened(load(redis_url=server.url, state_dir=tmp_path)) as base:
            for number in range(4):
                await base.redis.set(f"large:{number}", "x" * 2**20)
            first = await asyncio.create_subprocess_exec(
                *("sh", str(SCRIPTS / "backup.sh")), env=env, stdout=subprocess.PIPE
            )
            assert first.stdout is not None
            await first.stdout.readexactly(1)  # it copies; nobody takes the rest, so it does not end
            code, archive, said = await script("backup.sh", env)
            assert (code, archive, "another one is under way" in said) == (1, b"", True)
            assert await rewriting(base) == 0
            first.terminate()
            await first.communicate()
            assert first.returncode == 128 + signal.SIGTERM
            assert await rewriting(base) == 100


async def test_what_a_killed_backup_left_the_next_one_mends(tmp_path: Path, tools: Path) -> None:
    with RedisServer(tmp_path / "data", fsync="everysec") as server:
        env = at(server, tools, tmp_path / "password")
        async with opened(load(redis_url=server.url, state_dir=tmp_path)) as base:
            await base.redis.config_set("auto-aof-rewrite-percentage", 0)
            code, _, said = await script("backup.sh", env)
            assert code == 0, said
            assert await rewriting(base) == 100


async def test_a_restore_puts_aside_what_is_there_and_does_so_once(tmp_path: Path, tools: Path) -> None:
    with RedisServer(tmp_path / "data", fsync="everysec") as server:
        env = at(server, tools, tmp_path / "password")
        async with opened(load(redis_url=server.url, state_dir=tmp_path)) as base:
            await base.tenants.add(TENANT)
        code, archive, said = await script("backup.sh", env)
        assert code == 0, said
    data = tmp_path / "data"
    assert (await script("restore.sh", env, archive))[0] == 0
    assert (data / "appendonlydir.before/appendonly.aof.manifest").stat().st_size
    code, _, said = await script("restore.sh", env, archive)
    assert code == 1
    assert "is there already" in said


async def test_a_restore_refuses_what_is_no_backup_and_touches_nothing(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "data/appendonlydir").mkdir(parents=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("other"))
    env = {"PATH": os.environ["PATH"], "REDIS_DATA": str(tmp_path / "data")}
    code, _, said = await script("restore.sh", env, packed.getvalue())
    assert code == 1
    assert "no copy that backup.sh made" in said
    assert (tmp_path / "data/appendonlydir").is_dir()
    assert not (tmp_path / "data/appendonlydir.before").exists()


async def test_a_backup_that_cannot_ask_redis_fails_and_writes_nothing(tmp_path: Path, tools: Path) -> None:
    with RedisServer(tmp_path / "data", fsync="everysec") as server:
        env = at(server, tools, tmp_path / "password")
        (tmp_path / "password").write_text("not this one", encoding="utf-8")
        code, archive, said = await script("backup.sh", env)
    assert code != 0
    assert archive == b""
    assert said
