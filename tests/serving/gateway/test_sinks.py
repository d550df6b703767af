"""The recorder over HTTP: events by question, sinks and dead letters."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from chimera.core.scope import ALL, FLEET
from chimera.runtime.base import Base
from chimera.runtime.exporting import SERVER
from chimera.serving.gateway.archive import exported, figures
from chimera.store import exports as exports_module
from tests.keys import key_of
from tests.serving.gateway.conftest import Fleet, submitted
from tests.store import history
from tests.store.letters import refuse


async def ask(http: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    """Every page of a question."""
    found, after = [], ""
    while after is not None:
        response = await http.get("/v1/recorder/events", params={**params, "after": after})
        assert response.status_code == 200, response.text
        found += response.json()["items"]
        after = response.json()["next"]
    return found


async def test_events_are_found_by_mission_task_kind_and_time(
    http: httpx.AsyncClient, base: Base, tenant: str, fleet: Fleet
) -> None:
    first = await submitted(http)
    await fleet.do(first)
    await history.archive(base, tenant, term=1)  # what is archived is found as what is not
    second = await submitted(http)
    await fleet.do(second)
    everything = [event.model_dump(mode="json") for _, event in await history.read(base, tenant)]
    assert await ask(http, limit=7) == everything
    assert await ask(http, mission=first) == [one for one in everything if one["mission_id"] == first]
    task = f"{second}.1"
    assert await ask(http, task=task, limit=3) == [one for one in everything if one["task_id"] == task]
    kinds = [one["kind"] for one in await ask(http, kind="task.accepted,mission.*")]
    assert kinds.count("task.accepted") == 4
    assert {one.partition(".")[0] for one in kinds} == {"task", "mission"}
    middle = everything[len(everything) // 2]["at"]
    young, old = await ask(http, since=middle), await ask(http, until=middle)
    assert old + young == everything
    assert young[0]["at"] >= middle > old[-1]["at"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"kind": "nothing"}, "no event is of kind 'nothing'"),
        ({"after": "x"}, "'x' is no position"),
        ({"since": "2026-01-01T00:00:00"}, "timezone"),
        ({"limit": 0}, "limit"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused(
    http: httpx.AsyncClient, params: dict[str, Any], said: str
) -> None:
    response = await http.get("/v1/recorder/events", params=params)
    assert response.status_code == 422
    assert said in response.text


async def test_dead_letters_are_read_by_their_tenant_and_answered_by_the_fleet(
    http: httpx.AsyncClient, base: Base, tenant: str, key: str
) -> None:
    exports = await refuse(base, tenant, 12)
    page = (await http.get("/v1/recorder/dead", params={"limit": 10})).json()
    rest = (await http.get("/v1/recorder/dead", params={"limit": 10, "after": page["next"]})).json()
    assert [one["id"] for one in page["items"] + rest["items"]] == [
        f"{tenant}/1/{seq}" for seq in range(1, 13)
    ]
    mine = await http.post("/v1/recorder/dead/drop", json={"all": True})
    assert mine.status_code == 403
    fleet = {"Authorization": f"Bearer {await key_of(base, FLEET, *ALL)}", "Idempotency-Key": "k"}
    for _ in range(2):  # the same again changes nothing
        said = await http.post(
            f"/v1/recorder/dead/retry?tenant={tenant}", json={"ids": [f"{tenant}/1/2", "x"]}, headers=fleet
        )
        assert (said.status_code, said.json()) == (200, {"count": 1})
    assert [one.id for one in await exports.dead() if one.retrying] == [f"{tenant}/1/2"]
    said = await http.post(f"/v1/recorder/dead/drop?tenant={tenant}", json={"all": True}, headers=fleet)
    assert said.json() == {"count": 12}
    assert (
        await http.post(f"/v1/recorder/dead/drop?tenant={tenant}", json={}, headers=fleet)
    ).status_code == 422
    acts = (await http.get("/v1/audit")).json()["items"]
    assert [one["kind"] for one in acts if one["kind"].startswith("export.")] == [
        "export.retried",
        *["export.dropped"] * 12,
    ]


async def test_a_tenant_sees_that_a_sink_stands_and_the_fleet_sees_why(
    http: httpx.AsyncClient, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refuse(base, tenant, 2)
    why = "the MCP server at sense.internal has no tool 'x'"
    await base.export_troubles.report(SERVER, why, since=datetime.now(UTC), failures=4)
    fleet = {"Authorization": f"Bearer {await key_of(base, FLEET, *ALL)}"}
    named = base.settings.model_copy(update={"mcp_url": "http://sense.internal/mcp"})
    near = replace(base, settings=named)
    try:
        mine = await http.get("/v1/recorder/sinks")
        theirs = await http.get("/v1/recorder/sinks", headers=fleet)
        probed = await exported(near)()
        told = {(one[0], one[1]): one[2] for one in await figures(near, [tenant])}
        monkeypatch.setattr("chimera.serving.gateway.archive.MOST_DEAD", 2)
        await base.export_troubles.clear(SERVER)
        held = await exported(near)()
    finally:
        await base.export_troubles.clear(SERVER)
    assert exports_module.MOST_DEAD == 1_000
    assert [one["sink"] for one in mine.json()["items"]] == ["archive", "mcp"]
    assert "sense.internal" not in mine.text
    assert "the operator sees why" in mine.text
    assert why in theirs.text
    assert not probed.ok
    assert "chimera recorder sinks" in probed.detail
    assert "sense.internal" not in probed.detail, "whoever asks needs no key"
    assert told["chimera_export_behind", (tenant,)] == 1
    assert told["chimera_export_dead", (tenant,)] == 2
    assert told["chimera_export_failures", ()] == 4
    assert not held.ok
    assert "wait for a word" in held.detail
