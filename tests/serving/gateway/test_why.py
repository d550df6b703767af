"""Why a task waits: each cause as it comes about in a real store; the place in line against real claims."""

from __future__ import annotations

import asyncio
import itertools
import re
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import httpx
import pytest

from chimera.core import waiting
from chimera.core.verdict import Decision
from chimera.core.waiting import Cause
from chimera.runtime.base import Base
from chimera.store.ledger import Reservation
from chimera.store.spokes import SwarmElection
from chimera.store.tasks import Ended
from tests.store import clock, drive
from tests.store.test_quotas import allow
from tests.store.test_shelves import begin, shelver, work


async def ask(http: httpx.AsyncClient, task_id: str) -> Any:
    response = await http.get(f"/v1/tasks/{task_id}/why")
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["task_id"] == task_id
    assert found["detail"]
    assert found["next_step"]
    return found


async def live(base: Base, tenant: str, worker: str = "w1", busy: int = 4) -> None:
    keys = base.of(tenant).tasks.keys
    await base.redis.zadd(keys.workers, {worker: 9e15})
    await base.redis.hset(keys.of("worker", worker), mapping={"slots": 4, "busy": busy})


async def test_no_task_is_not_found(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    await drive.begin(base, tenant, drive.spec())
    for task_id in ("m1.3", "m1.x", "m1.-1", "m2.0", "m1"):
        response = await http.get(f"/v1/tasks/{task_id}/why")
        assert (response.status_code, response.json()["type"]) == (404, "urn:chimera:problem:not-found")


async def test_a_task_that_is_on_the_shelf_is_over(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    stores = await begin(base, tenant)
    await work(stores)
    here = await ask(http, "m1.7")
    await shelver(base).tend(tenant, term=drive.TERM)
    assert await ask(http, "m1.7") == here
    assert (here["status"], here["cause"]) == ("ACCEPTED", Cause.DONE)
    assert (await http.get("/v1/tasks/m1.99999/why")).status_code == 404


async def test_an_input_that_is_not_planned_yet(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    await drive.submit(base, tenant, drive.spec())
    found = await ask(http, "m1.2")
    assert (found["cause"], found["status"]) == (Cause.PLANNING, None)
    assert "0 of 3 inputs so far" in found["detail"]
    assert "CHIMERA_PLAN_WINDOW" in found["next_step"]
    await drive.begin(base, tenant, drive.spec(), "m2")
    await allow(base, tenant, max_ready=2)
    assert "its quota plans up to 2" in (await ask(http, "m1.2"))["detail"]


async def test_capacity_is_a_start_a_place_a_turn_or_the_quota(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2, 3, 4]))
    found = await ask(http, "m1.1")
    assert (found["cause"], found["figures"]["by"]) == (Cause.CAPACITY, "starting")
    assert (found["position"], found["waiting"]) == (2, 4)
    for other in ("o1", "o2"):
        await base.tenants.add(f"{tenant}-{other}")
        await live(base, f"{tenant}-{other}")
    found = await ask(http, "m1.1")
    assert found["figures"]["by"] == "places"
    assert "all 2 worker places of the fleet are taken" in found["detail"]
    await allow(base, f"{tenant}-o1", spoke=True)
    assert (await ask(http, "m1.1"))["figures"]["by"] == "starting", "what a spoke keeps takes none of them"
    for other in ("o1", "o2"):
        await base.tenants.remove(f"{tenant}-{other}")
    await allow(base, tenant, spoke=True)
    found = await ask(http, "m1.1")
    assert (found["cause"], found["figures"]["spoke"]) == (Cause.SPOKE, "away")
    assert await SwarmElection(base.redis, tenant).lead("s1", ttl_s=60) == 1
    found = await ask(http, "m1.1")
    assert (found["cause"], found["figures"]["by"]) == (Cause.CAPACITY, "starting")
    await allow(base, tenant, spoke=False)
    await live(base, tenant)
    found = await ask(http, "m1.1")
    assert found["figures"]["by"] == "turn"
    assert "1 workers have 4 of 4 slots in use" in found["detail"]
    await allow(base, tenant, max_agents=2)
    await drive.claim(stores)
    found = await ask(http, "m1.1")
    assert (found["figures"]["by"], found["figures"]["max_agents"]) == ("quota", 2)
    assert "max_agents" in found["next_step"]
    assert found["position"] == 1


async def test_a_dependency_names_the_tasks(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    plan = {
        "strategy": "dag",
        "nodes": [{"name": "a"}, {"name": "b"}, {"name": "c", "depends_on": ["a", "b"]}],
    }
    stores = await drive.begin(base, tenant, drive.spec(inputs=[], plan=plan))
    found = await ask(http, "m1.c")
    assert found["cause"] == Cause.DEPENDENCY
    assert [one["task_id"] for one in found["figures"]["tasks"]] == ["m1.a", "m1.b"]
    assert "chimera task why m1.a" in found["next_step"]
    await drive.finish(stores, 1)
    assert [one["task_id"] for one in (await ask(http, "m1.c"))["figures"]["tasks"]] == ["m1.b"]


@pytest.mark.parametrize("plan", [None, {"strategy": "map_reduce", "reduce": {"agent": "echo"}}])
async def test_a_pause_holds_what_is_not_under_way(
    http: httpx.AsyncClient, base: Base, tenant: str, plan: Any
) -> None:
    fields = {"plan": plan} if plan else {}
    stores = await drive.begin(base, tenant, drive.spec(**fields))
    await drive.claim(stores)
    await stores.missions.pause("m1", "p", by="test", reason="the wrong prompt")
    waits = ["m1.1", *(["m1.r1-0"] if plan else [])]
    for task_id in waits:
        found = await ask(http, task_id)
        assert found["cause"] == Cause.PAUSE
        assert "the wrong prompt" in found["detail"]
        assert "chimera mission resume m1" in found["next_step"]
    assert (await ask(http, "m1.0"))["cause"] == Cause.RUNNING


async def test_a_suspension_holds_what_is_not_under_way_and_says_why(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores)
    await base.tenants.suspend(tenant, "s", by="test", reason="invoice 12")
    found = await ask(http, "m1.1")
    assert found["cause"] == Cause.SUSPENDED
    assert "invoice 12" in found["detail"]
    assert "chimera tenant resume" in found["next_step"]
    assert (await ask(http, one.task_id))["cause"] == Cause.RUNNING
    await stores.ledger.reserve([Reservation("h", one.task_id, one.token, 5, 60)], term=drive.TERM, by="g")
    assert (await ask(http, one.task_id))["cause"] == Cause.SUSPENDED, "it waits for money"
    await base.tenants.resume(tenant, "r", by="test")
    assert (await ask(http, "m1.1"))["cause"] == Cause.CAPACITY


async def test_what_runs_names_its_worker(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    await drive.claim(await drive.begin(base, tenant, drive.spec()))
    found = await ask(http, "m1.0")
    assert (found["cause"], found["figures"]) == (Cause.RUNNING, {"worker": "w1"})


async def test_a_later_try_says_when_and_after_what(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "the model is down", 60)])
    found = await ask(http, "m1.0")
    assert found["cause"] == Cause.LATER
    assert re.search(r"again in (59|60) s \(the model is down\)", found["detail"])


async def test_a_limit_says_which_how_much_and_when_it_resets(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    await stores.ledger.set_limits({drive.DAY: 1_000}, by="test")
    (one,) = await drive.claim(stores)
    assert await stores.ledger.reserve(
        [Reservation("h0", one.task_id, one.token, 900, 60)], term=1, by="g"
    ) == [None]
    (refused,) = await stores.ledger.reserve(
        [Reservation("h1", one.task_id, one.token, 500, 60)], term=1, by="g"
    )
    assert refused is not None
    found = await ask(http, "m1.0")
    assert (found["cause"], found["figures"]["kind"]) == (Cause.LIMIT, "contended")
    assert found["figures"]["level"] == "tenant/day"
    assert (found["figures"]["limit_microusd"], found["figures"]["held_microusd"]) == (1_000, 900)
    # The worker gives up waiting in place, and hands it back.
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "return", str(refused), 30)])
    assert (await ask(http, "m1.0"))["cause"] == Cause.LIMIT


async def test_a_window_that_is_used_up_says_when_it_starts_anew(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    await stores.ledger.set_limits({drive.DAY: 1_000}, by="test")
    (one,) = await drive.claim(stores)
    asked = Reservation("h0", one.task_id, one.token, 900, 60)
    await stores.ledger.reserve([asked], term=1, by="g")
    await base.redis.hset(
        stores.ledger.keys.ledger, "settled:" + datetime.now(UTC).strftime("day:%Y-%m-%d"), 900
    )
    await stores.ledger.reserve([Reservation("h1", one.task_id, one.token, 500, 60)], term=1, by="g")
    found = await ask(http, "m1.0")
    assert (found["cause"], found["figures"]["kind"]) == (Cause.LIMIT, "window")
    assert "it starts anew in" in found["detail"]
    assert found["next_step"].startswith("wait for its reset")
    assert f"`chimera tenant set {tenant} --limit day=USD --reason WHY`" in found["next_step"]
    assert found["figures"]["resets_at_ms"] > datetime.now(UTC).timestamp() * 1000


async def test_a_call_above_a_whole_limit_is_not_told_to_wait(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    await stores.ledger.set_limits({drive.DAY: 1_000}, by="test")
    (one,) = await drive.claim(stores)
    await stores.ledger.reserve([Reservation("h0", one.task_id, one.token, 1_001, 60)], term=1, by="g")
    found = await ask(http, "m1.0")
    assert (found["cause"], found["figures"]["kind"]) == (Cause.LIMIT, "exhausted")
    assert found["next_step"].startswith("it can never fit: let the operator raise it")


async def test_a_budget_that_is_used_up_says_how_to_go_on(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(budget_usd="0.001"))
    (one,) = await drive.claim(stores)
    asked = Reservation("h0", one.task_id, one.token, 5_000, 60)
    await stores.ledger.reserve([asked], term=1, by="g")
    found = await ask(http, "m1.0")
    assert (found["cause"], found["figures"]["level"]) == (Cause.BUDGET, "mission")
    await drive.end(stores)
    for task_id in ("m1.0", "m1.1"):
        found = await ask(http, task_id)
        assert found["cause"] == Cause.BUDGET
        assert "chimera mission resume m1 --budget-usd" in found["next_step"]


async def test_a_judge_that_cannot_pay_waits_for_the_budget(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(budget_usd="0.001"))
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await stores.ledger.reserve([Reservation("h0", one.task_id, held.token, 5_000, 60)], term=1, by="g")
    await stores.reviews.give_back("j1", [(held, "no money", False)], max_failures=3)
    assert (await ask(http, "m1.0"))["cause"] == Cause.BUDGET


async def test_a_review_says_its_place_before_the_judge(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    for one in await drive.claim(stores, 3):
        await drive.hand_in(stores, one)
    found = await ask(http, "m1.2")
    assert (found["cause"], found["position"], found["waiting"]) == (Cause.REVIEW, 3, 3)
    await drive.review(stores, 1)
    assert "judge j1 has its result" in (await ask(http, "m1.0"))["detail"]
    assert (await ask(http, "m1.2"))["position"] == 2


async def test_what_a_human_is_asked_names_the_command(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict(Decision.ESCALATE, 0.8))
    found = await ask(http, "m1.0")
    assert found["cause"] == Cause.HUMAN
    assert "chimera review show m1.0" in found["next_step"]


async def test_what_is_done_waits_for_nothing_archived_or_not(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    stores = await drive.over(base, tenant)
    before = await ask(http, "m1.0")
    assert (before["cause"], before["status"]) == (Cause.DONE, "ACCEPTED")
    await drive.archive(stores)
    assert await ask(http, "m1.0") == before


async def test_the_place_in_line_is_when_it_is_claimed(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    """Missions of all priorities and ages: each task's place is the turn in which claims of one take it."""
    numbers, now = itertools.count(), 1_800_000_000.0
    with clock.set_by_hand():
        for at, priority, tasks in [
            (0, "medium", 5),
            (10, "low", 4),
            (25, "low", 3),
            (35, "medium", 4),
            (36, "high", 3),
            (44, "high", 2),
        ]:
            await clock.set_to(base, tenant, datetime.fromtimestamp(now + at, UTC))
            mission = drive.spec(inputs=[0] * tasks, priority=priority)
            await drive.begin(base, tenant, mission, f"m{next(numbers)}")
        await clock.set_to(base, tenant, datetime.fromtimestamp(now + 45, UTC))
        stores = base.of(tenant)
        ids = [one for n in range(6) for one in await stores.missions.task_ids(f"m{n}")]
        quota = await base.tenants.quota(tenant)
        told = {}
        for one in ids:
            at_once = await stores.waiting.standing(one, quota=quota, places=2, window=2_000)
            assert at_once.index is not None
            told[one] = waiting.position(
                at_once.lines, at_once.mission_id, at_once.index, 1_800_000_045_000_000
            )
        claimed = []
        for turn in range(1, len(ids) + 1):
            await clock.set_to(base, tenant, datetime.fromtimestamp(now + 45 + turn / 1000, UTC))
            claimed += [one.task_id for one in await drive.claim(stores, lease_s=9e5)]
    assert sorted(ids, key=lambda one: told[one] or 0) == claimed
    assert sorted(told.values(), key=lambda place: place or 0) == list(range(1, len(ids) + 1))


def test_the_bonus_of_medium_is_that_of_the_scripts() -> None:
    text = (files("chimera.store") / "lua" / "include" / "work.lua").read_text(encoding="utf-8")
    assert re.search(r"MEDIUM_BONUS_US = (\d+)", text)[1] == str(waiting.MEDIUM_BONUS_US)  # type: ignore[index]  # (it is there, or the test fails)


async def test_far_back_in_line_is_told_as_such(
    http: httpx.AsyncClient, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST_TURNS", 10)
    await drive.begin(base, tenant, drive.spec(inputs=[0] * 30))
    near, far = await asyncio.gather(ask(http, "m1.9"), ask(http, "m1.10"))
    assert (near["position"], far["position"], far["waiting"]) == (10, None, 30)
