"""Costs and reviews as they are sent: whole, escaped, and acted on as the API does."""

from __future__ import annotations

import httpx
import pytest

from chimera.core.action import HttpAction
from chimera.core.scope import ALL, FLEET
from chimera.core.verdict import Decision
from chimera.runtime.base import Base
from tests.keys import key_of
from tests.serving.gateway.conftest import Fleet, submitted
from tests.serving.gateway.test_sessions import OURS, browser, log_in, token

__all__ = ["browser"]

HOOK = HttpAction(url="http://receiver.test/hook", body={"n": 1}).model_dump_json()


@pytest.fixture
async def waiting(http: httpx.AsyncClient, fleet: Fleet) -> str:
    """A task that waits for a human."""
    mission_id = await submitted(http, inputs=["<script>alert(1)</script>"])
    await fleet.do(mission_id, Decision.ESCALATE, actions=(HOOK,))
    return f"{mission_id}.0"


async def act(browser: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    said = {"csrf": await token(browser), **fields}
    return await browser.post(f"/dashboard/act/{path}", data=said, headers=OURS)


@pytest.mark.parametrize("who", ["tenant", "fleet"])
async def test_every_page_is_drawn_for_a_tenant_and_for_the_fleet(
    browser: httpx.AsyncClient, base: Base, tenant: str, waiting: str, who: str
) -> None:
    key = await key_of(base, tenant if who == "tenant" else FLEET, *ALL)
    await log_in(browser, key)
    whose = {"tenant": tenant} if who == "fleet" else {}
    for path in ("costs", "reviews", "throughput"):
        for query in ({}, whose):
            answer = await browser.get(f"/dashboard/{path}", params=query)
            assert answer.status_code == 200, answer.text
    for path in (f"reviews/{waiting}", "costs/brake/freeze", "costs/brake/override", "costs.csv"):
        answer = await browser.get(f"/dashboard/{path}", params=whose)
        assert answer.status_code == 200, answer.text
        assert "<script>alert" not in answer.text


async def test_an_answer_of_the_page_is_the_apis(
    browser: httpx.AsyncClient, key: str, http: httpx.AsyncClient, waiting: str
) -> None:
    await log_in(browser, key)
    answer = await act(browser, f"review/{waiting}/approve", comment="seen", operation="o1")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        f"/dashboard/reviews?told=approved%3A{waiting}",
    )
    task = (await http.get(f"/v1/tasks/{waiting}")).json()
    assert (task["status"], task["verdicts"][-1]["feedback"]) == ("ACCEPTED", "seen")
    again = await act(browser, f"review/{waiting}/approve", comment="seen", operation="o1")
    assert again.status_code == 303
    late = await act(browser, f"review/{waiting}/reject", comment="no")
    assert late.status_code == 409
    assert "approved it at" in late.text
    assert len((await http.get(f"/v1/tasks/{waiting}")).json()["verdicts"]) == 2


async def test_an_act_shows_at_once_what_it_did(browser: httpx.AsyncClient, key: str) -> None:
    await log_in(browser, key)
    assert 'class="state ok"' in (await browser.get("/dashboard/panels/brake")).text
    answer = await act(browser, "brake/freeze", reason="we look")
    assert answer.status_code == 303
    panel = (await browser.get("/dashboard/panels/brake.json")).json()
    assert panel["brakes"][0]["governor"]["state"] == "frozen"


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("brake/freeze", {}, "reason"),
        ("brake/override", {"reason": "x", "minutes": "0"}, "minutes"),
        ("brake/override", {"reason": "x", "minutes": "<b>"}, "minutes"),
        ("flags", {"level": "x" * 301}, "levels"),
    ],
)
async def test_a_form_that_cannot_be_is_refused_and_says_why(
    browser: httpx.AsyncClient, key: str, path: str, fields: dict[str, str], said: str
) -> None:
    await log_in(browser, key)
    answer = await act(browser, path, **fields)
    assert answer.status_code == 422
    assert said in answer.text
    assert "<b>" not in answer.text


async def test_a_breakdown_is_kept_while_it_is_fresh(browser: httpx.AsyncClient, key: str) -> None:
    await log_in(browser, key)
    first, second = [(await browser.get("/dashboard/panels/breakdown.json")).json() for _ in range(2)]
    assert first["at"] is not None
    assert second == first
