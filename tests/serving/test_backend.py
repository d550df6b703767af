"""Who is given which outfit: each worker its own tenant's, once, and again when it has changed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from structlog.testing import capture_logs

from chimera.runtime import secrets
from chimera.runtime.outfit import Outfit
from chimera.serving.backend import RayBackend
from chimera.serving.titles import CELL
from chimera.settings import load


class Actor:
    """Takes note of what it is given, in place of a process."""

    def __init__(self) -> None:
        self.given: list[Outfit] = []
        self.equip = SimpleNamespace(remote=self._equip)

    def _equip(self, outfit: bytes) -> None:
        self.given.append(Outfit.model_validate_json(outfit))


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A backend whose actors are these."""
    monkeypatch.setattr(secrets, "FRESH_S", -1.0)
    for tenant in ("acme", "other"):
        (tmp_path / tenant).mkdir()
        (tmp_path / tenant / "TOKEN").write_text(f"of {tenant}", encoding="utf-8")
    made = RayBackend(load(redis_url="redis://h/0", tenant_secrets_dir=tmp_path))

    def of(*names: str) -> tuple[RayBackend, list[Actor]]:
        actors = [Actor() for _ in names]
        made._actors = dict(zip(names, actors, strict=True))
        return made, actors

    return of


async def test_each_is_given_its_own_tenants_once(backend: Any) -> None:
    made, (first, second, spare) = backend("w1", "w2", "spare-1")
    for _ in range(2):
        await made.equip({"w1": "acme", "w2": "other", "spare-1": ""})
    assert [one.secrets for one in first.given] == [{"TOKEN": "of acme"}]
    assert [one.secrets for one in second.given] == [{"TOKEN": "of other"}]
    assert [(one.tenant, one.secrets) for one in spare.given] == [("", {})]
    await made.equip({"w1": "acme", "w2": "other", "spare-1": "other"})
    assert [one.tenant for one in spare.given] == ["", "other"], "it is bound now"
    assert len(first.given) == len(second.given) == 1


async def test_a_changed_secret_is_given_anew_to_its_own_alone(backend: Any, tmp_path: Path) -> None:
    made, (first, second) = backend("w1", "w2")
    await made.equip({"w1": "acme", "w2": "other"})
    (tmp_path / "acme" / "TOKEN").write_text("changed", encoding="utf-8")
    await made.equip({"w1": "acme", "w2": "other"})
    assert [one.secrets["TOKEN"] for one in first.given] == ["of acme", "changed"]
    assert len(second.given) == 1


async def test_who_has_a_secret_that_cannot_be_used_is_given_nothing_and_it_is_told_once(
    backend: Any, tmp_path: Path
) -> None:
    made, (first, second) = backend("w1", "w2")
    (tmp_path / "acme" / "not-a-name").write_text("x", encoding="utf-8")
    with capture_logs() as logs:
        for _ in range(3):
            await made.equip({"w1": "acme", "w2": "other"})
    assert (first.given, len(second.given)) == ([], 1)
    assert [line["event"] for line in logs] == ["worker.unequipped"]
    (tmp_path / "acme" / "not-a-name").unlink()
    await made.equip({"w1": "acme"})
    assert len(first.given) == 1


@contextmanager
def cell(worker_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is called as that worker's cell is, and waits."""
    waits = (sys.executable, "-c", "import sys; sys.stdin.read()", "-m", CELL, worker_id)
    with subprocess.Popen(waits, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_worker_that_says_anothers_process_is_its_own_gets_it_not_killed(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str, namespace: str) -> Any:
        raise ValueError(f"no actor {name}")

    monkeypatch.setattr(ray, "get_actor", gone)
    made, _ = backend("w1", "w2")
    host = socket.gethostname()
    with cell("w1") as own, cell("w2") as neighbours:
        for said in (
            f"{neighbours.pid}@{host}",
            f"{os.getpid()}@{host}",
            f"²@{host}",
            f"{'9' * 5000}@{host}",
        ):
            await made.end("acme", "w1", said)
        assert own.poll() is neighbours.poll() is None
        await made.end("acme", "w1", f"{own.pid}@{host}")
        assert own.wait(20) == -signal.SIGKILL
        assert neighbours.poll() is None
