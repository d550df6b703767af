"""What was found good at submit is not checked again, and nothing else is let through."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from chimera.core.mission import MissionSpec
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, foundgood, intake
from chimera.serving.gateway.foundgood import FoundGood
from tests.serving.gateway.conftest import AGENTS, MISSION

SCHEMA = [{"policy": "schema", "schema": {"type": "object"}}]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[MissionSpec]:
    """Missions that were checked whole."""
    seen: list[MissionSpec] = []
    whole = intake.checked

    def noted(spec: MissionSpec, agents: Any) -> list[str]:
        seen.append(spec)
        return whole(spec, agents)

    monkeypatch.setattr(intake, "checked", noted)
    return seen


async def submit(http: httpx.AsyncClient, **changes: Any) -> int:
    return (await http.post("/v1/missions", json={**MISSION, **changes})).status_code


async def test_missions_that_ask_the_same_are_checked_once(
    http: httpx.AsyncClient, checks: list[MissionSpec]
) -> None:
    for number in range(3):
        assert await submit(http, judge=SCHEMA, goal=f"Number {number}.", inputs=[number]) == 201
    assert len(checks) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"times": 2}},
        {"agent": "llm"},
        {"judge": [{"policy": "schema", "schema": {"type": "array"}}]},
        {"plan": {"strategy": "map_reduce", "reduce": {"agent": "echo"}}},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_one_that_asks_something_else_is_checked_itself(
    http: httpx.AsyncClient, checks: list[MissionSpec], change: dict[str, Any]
) -> None:
    assert await submit(http, judge=SCHEMA) == 201
    assert await submit(http, **{"judge": SCHEMA, **change}) == 201
    assert len(checks) == 2


async def test_what_was_found_bad_is_refused_each_time(
    http: httpx.AsyncClient, checks: list[MissionSpec]
) -> None:
    for _ in range(2):
        assert await submit(http, options={"times": "x"}) == 422
    assert len(checks) == 2


async def test_other_agents_make_it_be_checked_anew(
    http: httpx.AsyncClient, hub: Hub, base: Base, checks: list[MissionSpec]
) -> None:
    assert await submit(http, options={"times": 2}) == 201
    strict = {**AGENTS["echo"], "options_schema": {"type": "object", "maxProperties": 0}}
    await base.catalogue.publish({**AGENTS, "echo": strict})
    await hub.base.catalogue.all()
    assert await submit(http, options={"times": 2}) == 422
    assert len(checks) == 2


async def test_an_agent_that_was_registered_just_now_can_be_named(
    http: httpx.AsyncClient, base: Base
) -> None:
    assert await submit(http) == 201
    assert await submit(http, agent="late") == 422
    await base.catalogue.publish({**AGENTS, "late": {"description": "Comes late."}})
    assert await submit(http, agent="late") == 201


def test_so_many_verdicts_are_kept_the_last_used_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foundgood, "MOST", 2)
    found, agents = FoundGood(), dict(AGENTS)
    found.add(b"a", agents)
    found.add(b"b", agents)
    assert found.has(b"a", agents)
    found.add(b"c", agents)
    assert [found.has(one, agents) for one in (b"a", b"b", b"c")] == [True, False, True]
    assert not found.has(b"a", dict(agents))  # other agents, though they say the same
