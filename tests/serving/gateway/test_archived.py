"""A mission that has left Redis: read as before, changed no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from chimera.core.verdict import Decision
from chimera.runtime.base import Base
from tests.keys import key_of
from tests.serving.gateway.conftest import MISSION, Fleet, submitted
from tests.store import drive

HOOK = drive.HOOK.model_dump_json()


async def finished(http: httpx.AsyncClient, fleet: Fleet, **changes: Any) -> str:
    """A mission with accepted results, an action each, all carried out."""
    mission_id = await submitted(http, **changes)
    await fleet.plan(mission_id)
    while await fleet.work(actions=(HOOK,)):
        await fleet.judge(Decision.ACCEPT, mission_id)
    for errand in await drive.errands(fleet.stores):
        await drive.report(fleet.stores, errand, "failed" if errand.action_id.endswith(".1/0") else "done")
    return mission_id


async def archive(fleet: Fleet, *mission_ids: str) -> None:
    for mission_id in mission_ids:
        await drive.archive(fleet.stores, mission_id)


def strip(view: dict[str, Any]) -> dict[str, Any]:
    """What must not differ."""
    return {name: value for name, value in view.items() if name not in {"archived_at", "next_step"}}


async def seen(http: httpx.AsyncClient, mission_id: str) -> dict[str, Any]:
    """Everything the API gives of a mission."""
    path = f"/v1/missions/{mission_id}"
    tasks = (await http.get(f"{path}/tasks")).json()["items"]
    return {
        "mission": strip((await http.get(path)).json()),
        "tasks": tasks,
        "each": [(await http.get(f"/v1/tasks/{task['task_id']}")).json() for task in tasks],
        "results": (await http.get(f"{path}/results")).text,
        "actions": (await http.get(f"{path}/actions")).json(),
        "accepted": (await http.get(f"{path}/tasks", params={"status": "ACCEPTED"})).json(),
        "failed": (await http.get(f"{path}/actions", params={"status": "FAILED"})).json(),
        "events": [
            line
            for line in (await http.get(f"{path}/events", params={"follow": "false"})).text.splitlines()
            if line.startswith("event: ") and "archived" not in line
        ],
    }


async def test_it_reads_as_before(http: httpx.AsyncClient, fleet: Fleet) -> None:
    plan = {"strategy": "map_reduce", "width": 2, "reduce": {"agent": "echo"}}
    mission_id = await finished(http, fleet, inputs=["a", "b", "c"], plan=plan)
    before = await seen(http, mission_id)
    assert len(before["each"]) == len(before["results"].splitlines()) == 6
    assert before["each"][1]["context"]["inputs"]
    assert len(before["actions"]["items"]) == 6
    await archive(fleet, mission_id)
    after = await seen(http, mission_id)
    for part in (before, after):  # those of an archived mission are in the order of its tasks
        part["actions"]["items"].sort(key=lambda action: action["action_id"])
    assert after == before
    mission = (await http.get(f"/v1/missions/{mission_id}")).json()
    assert mission["archived_at"] > mission["finished_at"]
    assert mission["next_step"] == "", "nothing can be retried any more"


async def test_a_failed_one_says_that_it_cannot_be_brought_back(
    http: httpx.AsyncClient, fleet: Fleet
) -> None:
    mission_id = await submitted(http, max_attempts=1)
    await fleet.do(mission_id, Decision.REJECT)
    assert "task list" in (await http.get(f"/v1/missions/{mission_id}")).json()["next_step"]
    await archive(fleet, mission_id)
    assert "submit it anew" in (await http.get(f"/v1/missions/{mission_id}")).json()["next_step"]


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_its_tasks_and_actions_are_paged_as_before(
    size: int, http: httpx.AsyncClient, fleet: Fleet
) -> None:
    mission_id = await finished(http, fleet, inputs=list("abcde"))
    await archive(fleet, mission_id)
    for what in ("tasks", "actions"):
        found: list[str] = []
        params: dict[str, Any] = {"limit": size}
        while True:
            page = (await http.get(f"/v1/missions/{mission_id}/{what}", params=params)).json()
            found += [one["task_id"] for one in page["items"]]
            if page["next"] is None:
                break
            params["after"] = page["next"]
        assert found == [f"{mission_id}.{n}" for n in range(5)]


CHANGES: dict[str, tuple[str, str, Any]] = {
    "edit": ("PATCH", "", {"goal": "other"}),
    "pause": ("POST", "/pause", {}),
    "resume": ("POST", "/resume", {"budget_usd": "5"}),
    "cancel": ("POST", "/cancel", {}),
    "redrive": ("POST", "/redrive", {"tasks": ["x"]}),
    "retry": ("POST", "/actions/retry", {"actions": ["x"]}),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_it_cannot_be_changed_any_more(change: str, http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await finished(http, fleet)
    await archive(fleet, mission_id)
    method, path, body = CHANGES[change]
    response = await http.request(method, f"/v1/missions/{mission_id}{path}", json=body)
    problem = response.json()
    assert (response.status_code, problem["type"]) == (409, "urn:chimera:problem:invalid-transition")
    assert f"mission {mission_id} ended 20" in problem["detail"]
    assert "and was archived 20" in problem["detail"]
    assert "submit it anew" in problem["detail"]
    nowhere = await http.request(method, f"/v1/missions/nowhere{path}", json=body)
    assert nowhere.status_code == 404


async def test_its_tasks_wait_for_no_human(http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await finished(http, fleet)
    await archive(fleet, mission_id)
    for answer in ("approve", "reject"):
        response = await http.post(f"/v1/reviews/{mission_id}.0/{answer}")
        assert response.status_code == 409
        assert "was archived" in response.json()["detail"]
    shown = await http.get(f"/v1/reviews/{mission_id}.0")
    assert (shown.status_code, "it is ACCEPTED" in shown.json()["detail"]) == (409, True)
    for path in (f"/v1/tasks/{mission_id}.9", f"/v1/reviews/{mission_id}.9", "/v1/tasks/nowhere.0"):
        assert (await http.get(path)).status_code == 404


async def test_its_idempotency_key_still_gives_it(http: httpx.AsyncClient, fleet: Fleet) -> None:
    first = await http.post("/v1/missions", json=MISSION, headers={"Idempotency-Key": "k"})
    mission_id = first.json()["mission_id"]
    await fleet.do(mission_id)
    await archive(fleet, mission_id)
    again = await http.post("/v1/missions", json=MISSION, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["mission_id"]) == (200, mission_id)
    assert again.json()["archived_at"]


async def test_it_is_in_a_list_of_its_own(http: httpx.AsyncClient, fleet: Fleet) -> None:
    made = [await submitted(http) for _ in range(5)]
    for mission_id in made:
        await fleet.do(mission_id)
    await archive(fleet, *made[:3])
    here = (await http.get("/v1/missions")).json()["items"]
    assert [one["mission_id"] for one in here] == [made[4], made[3]]
    page = (await http.get("/v1/missions", params={"archived": "true", "limit": 2})).json()
    assert [one["mission_id"] for one in page["items"]] == [*sorted(made[:3], reverse=True)][:2]
    assert all(one["archived_at"] for one in page["items"])
    params = {"archived": "true", "limit": 2, "after": page["next"]}
    rest = (await http.get("/v1/missions", params=params)).json()
    assert ([one["mission_id"] for one in rest["items"]], rest["next"]) == ([min(made[:3])], None)


async def test_a_watch_of_it_shows_it_and_ends(http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await finished(http, fleet)
    await archive(fleet, mission_id)
    text = (await http.get(f"/v1/missions/{mission_id}/watch")).text
    assert '"status":"COMPLETED"' in text
    assert text.endswith("event: end\ndata: {}\n\n")


async def test_another_tenants_does_not_exist(http: httpx.AsyncClient, base: Base, fleet: Fleet) -> None:
    mission_id = await finished(http, fleet)
    await archive(fleet, mission_id)
    other = {"Authorization": f"Bearer {await key_of(base, f'{fleet.tenant}-x')}"}
    for path in (f"/v1/missions/{mission_id}", f"/v1/tasks/{mission_id}.0"):
        assert (await http.get(path, headers=other)).status_code == 404
    assert (await http.get("/v1/missions?archived=true", headers=other)).json()["items"] == []


async def test_a_damaged_file_or_a_blob_store_that_is_away_is_said(
    http: httpx.AsyncClient, base: Base, fleet: Fleet
) -> None:
    mission_id = await finished(http, fleet)
    await archive(fleet, mission_id)
    folder = Path(base.settings.blob_location) / fleet.tenant / "missions"
    (file,) = folder.rglob("*.zst")
    file.write_bytes(b"damaged")
    damaged = await http.get(f"/v1/missions/{mission_id}")
    assert (damaged.status_code, damaged.json()["type"]) == (500, "urn:chimera:problem:corrupt-record")
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("in the way")
    away = await http.get(f"/v1/missions/{mission_id}")
    assert (away.status_code, away.json()["type"]) == (503, "urn:chimera:problem:blobs-unavailable")
