"""Missions in the dashboard without a browser: who sees what, what the panels say, who may act."""

from __future__ import annotations

import httpx
import pytest

from chimera.core.scope import ALL, FLEET, Scope
from chimera.dashboard.films import Films
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub
from tests.dashboard import crowd
from tests.keys import key_of
from tests.serving.gateway.test_sessions import OURS, browser, log_in, token
from tests.store import drive

__all__ = ["browser"]

PANELS = (
    "mission",
    "mission-scene",
    "mission-course",
    "mission-steps",
    "mission-tasks",
    "mission-results",
)
OF_FAILED = {"mission": "m1", "status": "FAILED"}


async def test_each_panel_of_a_mission_is_answered_to_its_tenant_and_to_no_other(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await drive.over(base, tenant)
    for name in PANELS:
        answer = await http.get(f"/v1/panels/{name}", params={"mission": "m1"})
        assert answer.status_code == 200, answer.text
        other = await http.get(f"/v1/panels/{name}", params={"mission": "m1", "tenant": f"{tenant}x"})
        assert other.status_code == 404
        missing = await http.get(f"/v1/panels/{name}", params={"mission": "m9"})
        assert missing.status_code == 404
    task = (await http.get("/v1/panels/mission-task", params={"task": "m1.0"})).json()
    assert task["task"]["status"] == "ACCEPTED"
    assert [event["kind"] for event in task["events"]][-1] == "task.accepted"


async def test_the_fleets_key_sees_the_missions_of_all_tenants(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await drive.submit(base, tenant, drive.spec(), "m1", at_once=True)
    fleet = {"Authorization": f"Bearer {await key_of(base, FLEET, Scope.READ)}"}
    listed = (await http.get("/v1/panels/missions", headers=fleet)).json()["missions"]
    assert (tenant, "m1") in {(one["tenant"], one["mission_id"]) for one in listed}
    head = await http.get("/v1/panels/mission", params={"mission": "m1"}, headers=fleet)
    assert head.json()["mission"]["tenant"] == tenant


async def test_a_moment_says_what_stood_where_and_what_was_spent(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await crowd.make(base, tenant, drive.spec(inputs=list(range(4))))
    await crowd.run(stores)
    newest = (await http.get("/v1/panels/mission-scene", params={"mission": "m1"})).json()
    assert newest["still"]
    assert newest["live"]
    assert newest["counts"]["ACCEPTED"] == 4
    record = await stores.missions.get("m1")
    assert newest["settled_microusd"] == record.settled_microusd > 0
    first = (await http.get("/v1/panels/mission-scene", params={"mission": "m1", "at": 0})).json()
    assert (first["counts"]["UNPLANNED"], first["settled_microusd"], first["live"]) == (4, 0, False)
    beyond = (await http.get("/v1/panels/mission-scene", params={"mission": "m1", "at": 10**6})).json()
    assert beyond["index"] == newest["index"]


async def test_tasks_are_listed_by_status_and_say_why_they_wait(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await crowd.make(base, tenant, drive.spec(inputs=list(range(40)), max_attempts=1))
    await crowd.turn(stores, most=10, error_every=5)
    failed = (await http.get("/v1/panels/mission-tasks", params=OF_FAILED)).json()
    assert [row["status"] for row in failed["rows"]] == ["FAILED"] * 2
    assert failed["of"] == 2
    assert failed["rows"][0]["last_error"] == "the agent raised <b>boom</b>"
    ready = (
        await http.get("/v1/panels/mission-tasks", params={"mission": "m1", "status": "READY", "page": 1})
    ).json()
    assert (ready["of"], ready["pages"], len(ready["rows"])) == (30, 2, 5)
    assert {row["why"]["cause"] for row in ready["rows"]} == {"capacity"}
    assert ready["rows"][0]["why"]["position"] == 26


async def test_steps_say_what_each_cost(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    spec = drive.spec(inputs=list(range(30)), plan={"strategy": "map_reduce"})
    stores = await crowd.make(base, tenant, spec)
    await crowd.run(stores)
    panel = (await http.get("/v1/panels/mission-steps", params={"mission": "m1"})).json()
    assert [(step["title"], step["tasks"], step["accepted"]) for step in panel["steps"]] == [
        ("map", 30, 30),
        ("reduce 1", 2, 2),
        ("reduce 2", 1, 1),
    ]
    record = await stores.missions.get("m1")
    assert sum(step["settled_microusd"] for step in panel["steps"]) == record.settled_microusd
    assert panel["steps"][0]["mean_s"]["PENDING"] >= 0


async def test_a_mission_too_long_for_a_film_is_shown_as_it_is_now(
    http: httpx.AsyncClient, hub: Hub, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drive.over(base, tenant)
    monkeypatch.setattr(hub.films, "_most", 1_000)
    assert isinstance(hub.films, Films)
    for name in ("mission-scene", "mission-course", "mission-steps"):
        assert (await http.get(f"/v1/panels/{name}", params={"mission": "m1"})).json()["too_long"]
    scene = (await http.get("/v1/panels/mission-scene", params={"mission": "m1"})).json()
    assert scene["counts"]["ACCEPTED"] == 3
    tasks = (await http.get("/v1/panels/mission-tasks", params={"mission": "m1"})).json()
    assert [row["task_id"] for row in tasks["rows"]] == ["m1.0", "m1.1", "m1.2"]
    assert tasks["unsorted"]


@pytest.mark.parametrize(
    "query",
    ["status=LOST", "layers=x", "page=-1", "layers=1-", "page=99999999999"],
)
async def test_what_makes_no_sense_is_refused(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(f"/v1/panels/mission-tasks?mission=m1&{query}")
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("missions/m1?status=LOST", 422),
        ("missions/m1?layers=x", 422),
        ("missions/m1?page=99999999999", 422),
        ("missions/m1?lanes=99999999999", 422),
        ("missions/m1?at=-1", 422),
        (f"missions/{'m' * 65}", 404),
        (f"missions/{'m' * 65}/results", 404),
        ("missions/m1/results?after=99999999999", 422),
        (f"missions/m1/tasks/m1.{'0' * 200}", 404),
        ("missions/m1/tasks/m2.0", 404),
        (f"reviews/{'m' * 200}", 404),
    ],
)
async def test_an_address_that_makes_no_sense_leads_to_a_page_that_says_so(
    browser: httpx.AsyncClient, base: Base, tenant: str, path: str, status: int
) -> None:
    for mission_id in ("m1", "m2"):
        await drive.over(base, tenant, mission_id)
    await log_in(browser, await key_of(base, tenant, Scope.READ))
    answer = await browser.get(f"/dashboard/{path}")
    assert answer.status_code == status
    assert "<h1>" in answer.text


async def test_a_place_that_is_none_in_the_list_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/panels/missions", params={"after": "yesterday"})
    assert answer.status_code == 422
    assert "no place in a list" in answer.json()["detail"]


@pytest.mark.parametrize("act", ["pause", "resume", "cancel", "redrive"])
async def test_an_act_needs_the_scope_that_the_api_demands_and_a_page_of_ours(
    browser: httpx.AsyncClient, base: Base, tenant: str, act: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    await log_in(browser, await key_of(base, tenant, Scope.READ))
    sent = {"csrf": await token(browser), "reason": "because"}
    refused = await browser.post(f"/dashboard/act/missions/m1/{act}", data=sent, headers=OURS)
    assert refused.status_code == 403
    assert "`submit`" in refused.json()["detail"]
    await log_in(browser, await key_of(base, tenant, *ALL))
    forged = await browser.post(f"/dashboard/act/missions/m1/{act}", data={"reason": "x"}, headers=OURS)
    assert forged.status_code == 403
    assert (await stores.missions.get("m1")).status == "RUNNING"


async def test_an_act_without_scripts_leads_back_to_the_mission(
    browser: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    await log_in(browser, await key_of(base, tenant, *ALL))
    sent = {"csrf": await token(browser), "reason": "the oven is cold"}
    before = await browser.get("/dashboard/missions/m1")
    answer = await browser.post("/dashboard/act/missions/m1/pause", data=sent, headers=OURS)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/missions/m1")
    assert (await stores.missions.get("m1")).reason == "the oven is cold"
    assert "the oven is cold" not in before.text
    assert "the oven is cold" in (await browser.get("/dashboard/missions/m1")).text


async def test_redriving_where_nothing_failed_is_refused(
    browser: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await drive.begin(base, tenant, drive.spec())
    await log_in(browser, await key_of(base, tenant, *ALL))
    sent = {"csrf": await token(browser)}
    answer = await browser.post("/dashboard/act/missions/m1/redrive", data=sent, headers=OURS)
    assert answer.status_code == 422
    assert "nothing to redrive" in answer.json()["detail"]
