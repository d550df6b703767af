"""Who is given which outfit: each worker its own tenant's, once, and again when it has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from chimera.runtime import secrets
from chimera.runtime.outfit import Outfit
from chimera.serving.backend import RayBackend
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
