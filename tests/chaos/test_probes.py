"""Agents that mean harm: what they try with their worker's login is refused, and told to a witness."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chimera.chaos.history import History
from chimera.chaos.journal import read
from chimera.chaos.probes import REFUSED, THROUGH, attempts, probe
from chimera.chaos.site import _answers, _endpoint
from chimera.chaos.tenancy import tenants_are_apart
from chimera.core.mission import MissionStatus
from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.store.users import as_role
from tests.chaos.world import TENANT, World
from tests.store import drive

pytestmark = pytest.mark.chaos

OTHER = "acme-2"


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[str]:
    """Where an agent tells what it tried."""
    port = free_port()
    with _endpoint(port, tmp_path):
        _answers(f"http://{LOOPBACK}:{port}")
        yield f"http://{LOOPBACK}:{port}/probe"


def said(witnessed: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """What the checker makes of it."""
    return tenants_are_apart(
        History(tenants={}, acknowledged=(), calls=(), faults=(), probes=tuple(witnessed))
    )


async def test_an_agent_in_a_workers_process_finds_the_login_and_is_refused_everything(
    world: World, witness: str, tmp_path: Path
) -> None:
    await world.base.tenants.add(OTHER)
    await world.up("hub")
    await world.up("worker", agents="chimera.chaos.agents")
    harm = {"neighbour": OTHER, "witness": witness}
    told = {"n": 1, "seconds": 0, "pays": False, "fails": False, "hook": "", "probe": harm}
    await world.submit(drive.spec(agent="chaos-drill", inputs=[told]))
    assert (await world.final()).status is MissionStatus.COMPLETED
    with_login = [one for one in read(tmp_path / "probes.ndjson") if one["login"] == "worker"]
    assert len(with_login) == len(list(attempts(TENANT, OTHER))) + 1
    assert {one["outcome"] for one in with_login} == {REFUSED}
    assert said(with_login) == (len(with_login), [])


async def test_what_goes_through_is_seen(world: World) -> None:
    """The same with the operator's login, that no agent has: else a probe that tries nothing would pass."""
    tried = probe(TENANT, OTHER, [("worker", world.settings)])
    assert {one["outcome"] for one in tried} == {THROUGH}
    witnessed = [{"task": "m1.0", "tenant": TENANT, **one} for one in tried]
    checked, wrong = said(witnessed)
    assert checked == len(wrong) == len(tried)
    single = world.settings.model_copy(update={"redis_users": "single"})
    assert probe(TENANT, OTHER, [("worker", single)]) == [], (
        "one user is everybody's: there is nothing to show"
    )


async def test_a_worker_that_is_not_told_of_roles_is_tried_by_its_users_name(world: World) -> None:
    login = as_role(world.settings, "worker", TENANT).redis_url
    told = world.settings.model_copy(update={"redis_users": "single", "redis_url": login})
    tried = probe(TENANT, OTHER, [("worker", told)])
    assert {one["outcome"] for one in tried} == {REFUSED}
