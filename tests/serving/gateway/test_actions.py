from __future__ import annotations

import httpx

from chimera.core.action import HttpAction
from chimera.core.verdict import Decision
from tests.serving.gateway.conftest import Fleet, submitted
from tests.store import drive

HOOK = HttpAction(url="http://receiver.test/hook", body={"n": 1})
TWO = (HOOK.model_dump_json(), HOOK.model_dump_json())


async def accepted(http: httpx.AsyncClient, fleet: Fleet) -> str:
    mission_id = await submitted(http)
    await fleet.do(mission_id, actions=TWO)
    return mission_id


async def fail(fleet: Fleet, which: str) -> None:
    for one in await drive.errands(fleet.stores):
        await drive.report(fleet.stores, one, "failed" if one.action_id == which else "done")


async def test_before_the_verdict_a_reviewer_sees_what_would_be_done(
    http: httpx.AsyncClient, fleet: Fleet
) -> None:
    mission_id = await submitted(http, inputs=["a"])
    await fleet.do(mission_id, Decision.ESCALATE, actions=TWO)
    review = (await http.get(f"/v1/reviews/{mission_id}.0")).json()
    assert review["actions"] == [HOOK.model_dump(mode="json")] * 2
    task = (await http.get(f"/v1/tasks/{mission_id}.0")).json()
    assert (task["proposed"], task["actions"]) == (review["actions"], [])
    assert (await http.get(f"/v1/missions/{mission_id}/actions")).json() == {
        "items": [],
        "next": None,
        "damaged": [],
    }
    approved = (await http.post(f"/v1/reviews/{mission_id}.0/approve")).json()
    assert approved["proposed"] == []
    assert [one["status"] for one in approved["actions"]] == ["QUEUED", "QUEUED"]


async def test_a_completed_mission_counts_what_is_still_queued(http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await accepted(http, fleet)
    mission = (await http.get(f"/v1/missions/{mission_id}")).json()
    assert mission["status"] == "COMPLETED"
    assert mission["actions"] == {"QUEUED": 4, "DONE": 0, "FAILED": 0}
    await fail(fleet, f"{mission_id}.0/0")
    mission = (await http.get(f"/v1/missions/{mission_id}")).json()
    assert mission["actions"] == {"QUEUED": 0, "DONE": 3, "FAILED": 1}
    assert f"`chimera action retry --mission {mission_id}`" in mission["next_step"]


async def test_actions_are_listed_in_order_by_status_and_in_pages(
    http: httpx.AsyncClient, fleet: Fleet, tenant: str
) -> None:
    mission_id = await accepted(http, fleet)
    await fail(fleet, f"{mission_id}.1/0")
    path = f"/v1/missions/{mission_id}/actions"
    page = (await http.get(path, params={"limit": 3})).json()
    rest = (await http.get(path, params={"limit": 3, "after": page["next"]})).json()
    ids = [one["action_id"] for one in page["items"] + rest["items"]]
    assert ids == [f"{mission_id}.{task}/{index}" for task in range(2) for index in range(2)]
    assert rest["next"] is None
    (failed,) = (await http.get(path, params={"status": "FAILED"})).json()["items"]
    assert (failed["task_id"], failed["index"], failed["answer"]) == (f"{mission_id}.1", 0, "200: ok")
    assert failed["idempotency_key"] == f"{tenant}/{mission_id}.1/0"
    assert failed["action"]["url"] == HOOK.url
    assert failed["due_at"] is None
    assert (await http.get(path, params={"status": "LOST"})).status_code == 422
    assert (await http.get("/v1/missions/m9/actions")).status_code == 404


async def test_failed_actions_are_retried_once_for_a_key(http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await accepted(http, fleet)
    await fail(fleet, f"{mission_id}.0/1")
    path, which = f"/v1/missions/{mission_id}/actions/retry", f"{mission_id}.0/1"
    for _ in range(2):
        response = await http.post(path, json={"actions": [which]}, headers={"Idempotency-Key": "once"})
        assert response.json()["retried"] == 1
    assert response.json()["mission"]["actions"] == {"QUEUED": 1, "DONE": 3, "FAILED": 0}
    assert len(await drive.errands(fleet.stores)) == 1
    assert (await http.post(path, json={"actions": []})).status_code == 422
    assert (await http.post("/v1/missions/m9/actions/retry", json={"actions": [which]})).status_code == 404
