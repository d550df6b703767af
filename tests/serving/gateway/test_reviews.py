from __future__ import annotations

import httpx
import pytest

from chimera.core.verdict import Decision
from tests.serving.gateway.conftest import Fleet, submitted


@pytest.fixture
async def waiting(http: httpx.AsyncClient, fleet: Fleet) -> str:
    """A task that waits for a human."""
    mission_id = await submitted(http, inputs=["a"])
    await fleet.do(mission_id, Decision.ESCALATE)
    return f"{mission_id}.0"


async def test_the_inbox_shows_what_would_be_accepted_and_why_it_waits(
    http: httpx.AsyncClient, waiting: str
) -> None:
    (review,) = (await http.get("/v1/reviews")).json()["items"]
    assert review == (await http.get(f"/v1/reviews/{waiting}")).json()
    assert (review["task_id"], review["result"], review["reason"]) == (waiting, {"said": "a"}, "judge")
    assert review["verdicts"][0]["confidence"] == 0.8


async def test_a_mission_that_waits_names_the_command(http: httpx.AsyncClient, waiting: str) -> None:
    mission = (await http.get(f"/v1/missions/{waiting.partition('.')[0]}")).json()
    assert mission["status"] == "WAITING_REVIEW"
    assert "`chimera review list`" in mission["next_step"]


async def test_approve_commits_the_result_with_the_human_named(
    http: httpx.AsyncClient, waiting: str, fleet: Fleet
) -> None:
    task = (await http.post(f"/v1/reviews/{waiting}/approve", json={"comment": "fine"})).json()
    assert task["status"] == "ACCEPTED"
    assert task["verdicts"][-1]["judge"].startswith("human:key:")
    assert task["verdicts"][-1]["feedback"] == "fine"
    assert (await http.get("/v1/reviews")).json()["items"] == []


async def test_reject_tries_again_with_the_comment_as_feedback(http: httpx.AsyncClient, waiting: str) -> None:
    task = (await http.post(f"/v1/reviews/{waiting}/reject", json={"comment": "shorter"})).json()
    assert (task["status"], task["context"]["feedback"]) == ("READY", ["shorter"])


async def test_the_same_answer_twice_is_one_answer(http: httpx.AsyncClient, waiting: str) -> None:
    operation = {"Idempotency-Key": "once"}
    for _ in range(2):
        response = await http.post(f"/v1/reviews/{waiting}/approve", headers=operation)
        assert response.json()["status"] == "ACCEPTED"
    assert len(response.json()["verdicts"]) == 2


async def test_a_second_answer_is_a_conflict(http: httpx.AsyncClient, waiting: str) -> None:
    await http.post(f"/v1/reviews/{waiting}/approve")
    for path in (f"/v1/reviews/{waiting}/approve", f"/v1/reviews/{waiting}/reject"):
        response = await http.post(path)
        assert response.status_code == 409
        assert "does not wait for a human: it is ACCEPTED" in response.json()["detail"]
    assert (await http.get(f"/v1/reviews/{waiting}")).status_code == 409


async def test_an_answer_to_a_mission_that_moved_on_is_stale(http: httpx.AsyncClient, waiting: str) -> None:
    await http.patch(f"/v1/missions/{waiting.partition('.')[0]}", json={"goal": "Something else."})
    response = await http.post(f"/v1/reviews/{waiting}/approve")
    assert response.status_code == 409
    assert response.json()["type"] == "urn:chimera:problem:stale-verdict"


async def test_an_answer_with_unknown_fields_is_refused(http: httpx.AsyncClient, waiting: str) -> None:
    response = await http.post(f"/v1/reviews/{waiting}/approve", json={"coment": "x"})
    assert response.status_code == 422
    assert response.json()["problems"] == ["coment: there is no such field"]
