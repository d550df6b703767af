"""Money over HTTP: reports as JSON and CSV, flags and their acknowledgement, estimates."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from chimera.client import Client
from chimera.core.recurrence import YEAR_H
from chimera.errors import InvalidRequest, RateLimited
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub
from tests.serving.gateway.conftest import MISSION
from tests.store import paid

DAY = f"{datetime.now(UTC):%Y-%m-%d}"


@pytest.fixture
async def spent(base: Base, tenant: str) -> None:
    """Two missions: calls of two agents and two models, one still open, one refused."""
    stores, claims = await paid.leased(base, tenant)
    _, others = await paid.leased(base, tenant, "m2")
    await stores.ledger.set_limits({"day": 1_000_000, "agent/writer/hour": 500}, by="eve")
    await paid.call(
        stores, claims[0], 40, input_tokens=30, cached_tokens=10, output_tokens=5, reasoning_tokens=2
    )
    await paid.call(stores, claims[1], 60, model="small")
    await paid.call(stores, others[0], 5, agent="judge", model="small")
    assert isinstance(await paid.hold(stores, claims[2], 33), str)
    assert not isinstance(await paid.hold(stores, claims[2], 501), str)


async def report(http: httpx.AsyncClient, **asked: str) -> Any:
    response = await http.get("/v1/spend/report", params=asked)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.usefixtures("spent")
async def test_a_report_tells_rows_total_and_what_they_rest_on(http: httpx.AsyncClient) -> None:
    told = await report(http)
    rows = {row["keys"]["model"]: row for row in told["rows"]}
    assert {model: row["cost_microusd"] for model, row in rows.items()} == {"gpt": 40, "small": 65}
    assert [row["keys"]["model"] for row in told["rows"]] == ["small", "gpt"], "the dearest first"
    tokens = {name: rows["gpt"][f"{name}_tokens"] for name in ("input", "cached", "output", "reasoning")}
    assert tokens == {"input": 30, "cached": 10, "output": 5, "reasoning": 2}
    assert (told["total"]["cost_microusd"], told["total"]["calls"], told["total"]["refused"]) == (105, 3, 1)
    assert (told["held_microusd"], told["settled_microusd"][f"day:{DAY}"]) == (33, 105)
    assert told["events"] == 4
    assert told["year"] is None
    assert "too little to extrapolate from" in told["year_note"]
    assert told["workers"] is None


@pytest.mark.usefixtures("spent")
async def test_rows_are_cut_by_any_combination_and_by_mission(http: httpx.AsyncClient) -> None:
    told = await report(http, by="day,agent")
    assert [(row["keys"], row["cost_microusd"]) for row in told["rows"]] == [
        ({"day": DAY, "agent": "writer"}, 100),
        ({"day": DAY, "agent": "judge"}, 5),
    ]
    one = await report(http, by="mission", mission="m2")
    assert [row["cost_microusd"] for row in one["rows"]] == [5]
    assert [level["level"] for level in one["levels"]] == ["mission"]


@pytest.mark.usefixtures("spent")
async def test_every_limit_that_is_set_and_open_budgets_are_told(http: httpx.AsyncClient) -> None:
    told = await report(http)
    levels = {(level["level"], level["mission_id"]): level for level in told["levels"]}
    assert set(levels) == {
        ("tenant/day", ""),
        ("agent/writer/hour", ""),
        ("mission", "m1"),
        ("mission", "m2"),
    }
    hour = levels["agent/writer/hour", ""]
    assert (hour["settled_microusd"], hour["held_microusd"], hour["left_microusd"]) == (100, 33, 367)
    assert datetime.fromisoformat(hour["resets_at"]) > datetime.now(UTC)
    assert (levels["mission", "m1"]["settled_microusd"], levels["mission", "m1"]["resets_at"]) == (100, None)


@pytest.mark.usefixtures("spent")
async def test_a_report_as_csv(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/spend/report", params={"by": "model,day"}, headers={"Accept": "text/csv"})
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [(row["model"], row["day"], row["cost_microusd"], row["cost_usd"]) for row in rows] == [
        ("small", DAY, "65", "0.000065"),
        ("gpt", DAY, "40", "0.000040"),
    ]


@pytest.mark.usefixtures("spent")
async def test_a_span_leaves_out_what_lies_beside_it(http: httpx.AsyncClient) -> None:
    until = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    told = await report(http, until=until)
    assert (told["rows"], told["total"]["cost_microusd"]) == ([], 0)
    assert told["settled_microusd"]["lifetime"] == 105, "the counters are those of now"


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"by": "colour"}, 422, "tenant, mission, agent, model, day"),
        ({"by": "day,day"}, 422, "twice"),
        ({"since": "2026-01-01"}, 422, "since"),
        ({"since": "2026-05-01T00:00:00Z", "until": "2026-04-01T00:00:00Z"}, 422, "must be before"),
        ({"since": "2020-01-01T00:00:00Z"}, 422, "400 days at most"),
        ({"since": "0001-01-01T00:00:00Z"}, 422, "400 days at most"),
        ({"until": "0001-01-01T00:00:00Z"}, 422, "must be before"),
        ({"until": "0001-01-01T00:00:00+23:00"}, 422, "in no year"),
        ({"since": "9999-12-31T23:00:00-23:00"}, 422, "in no year"),
        ({"mission": "nobody"}, 404, "no mission"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused(
    http: httpx.AsyncClient, asked: dict[str, str], status: int, said: str
) -> None:
    response = await http.get("/v1/spend/report", params=asked)
    assert response.status_code == status, response.text
    assert said in response.text


async def test_one_report_of_a_tenant_is_made_at_a_time(
    http: httpx.AsyncClient, hub: Hub, tenant: str
) -> None:
    async with hub.reports.one(tenant):
        response = await http.get("/v1/spend/report")
    assert response.status_code == 429
    assert response.headers["retry-after"]
    assert (await http.get("/v1/spend/report")).status_code == 200


@pytest.mark.usefixtures("spent")
async def test_flags_stand_in_reports_and_reviews_until_acknowledged(http: httpx.AsyncClient) -> None:
    (flag,) = (await http.get("/v1/spend/flags")).json()["items"]
    assert (flag["level"], flag["kind"], flag["count"]) == ("agent/writer/hour", "exhausted", 1)
    assert (flag["amount_microusd"], flag["fits_microusd"]) == (501, 367)
    assert (await report(http))["flags"] == [flag]
    assert (await http.get("/v1/reviews")).json()["flags"] == [flag]
    body = {"levels": ["agent/writer/hour"], "comment": "known"}
    for _ in range(2):
        done = await http.post("/v1/spend/flags/ack", json=body, headers={"Idempotency-Key": "one"})
        assert done.json() == {"acknowledged": 1}
    assert (await http.get("/v1/spend/flags")).json()["items"] == []
    assert (await http.get("/v1/reviews")).json()["flags"] == []


async def test_an_acknowledgement_names_something(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/spend/flags/ack", json={})
    assert response.status_code == 422
    assert "name levels, or say all" in response.text


async def estimate(http: httpx.AsyncClient, **changes: Any) -> Any:
    response = await http.post("/v1/missions/estimate", json={**MISSION, **changes})
    assert response.status_code == 200, response.text
    return response.json()


async def test_an_estimate_stores_nothing_and_says_what_it_rests_on(http: httpx.AsyncClient) -> None:
    told = await estimate(http, agent="llm", every="day")
    assert told["tasks"] == 2
    (part,) = told["parts"]
    assert part["rests_on"].startswith("assumed, for llm has no 20 paid tasks")
    assert 0 < told["low_microusd"] < told["likely_microusd"] < told["worst_microusd"] <= 100_000
    assert told["year_likely_microusd"] == round(told["likely_microusd"] * YEAR_H / 24)
    assert (await http.get("/v1/missions")).json()["items"] == []


async def test_an_estimate_counts_judges_and_the_reduce_tree(http: httpx.AsyncClient) -> None:
    judge = [{"policy": "llm", "rubric": "good", "allow_self_judging": True}]
    told = await estimate(
        http,
        agent="llm",
        inputs=list(range(5)),
        judge=judge,
        plan={"strategy": "map_reduce", "width": 2, "reduce": {"agent": "llm"}},
    )
    assert [(part["stage"], part["agent"], part["tasks"]) for part in told["parts"]] == [
        ("map", "llm", 5),
        ("map", "judge", 5),
        ("reduce", "llm", 6),
    ]
    assert told["tasks"] == 11
    calls = {part["stage"]: part["call_microusd"] for part in told["parts"] if part["agent"] == "llm"}
    assert calls["reduce"] > calls["map"], "results go into its prompt"


async def test_an_estimate_takes_sizes_in_place_of_inputs(http: httpx.AsyncClient) -> None:
    sizes = {"count": 1_000_000, "mean_bytes": 100, "max_bytes": 200}
    body = {name: value for name, value in MISSION.items() if name != "inputs"} | {"sizes": sizes}
    response = await http.post("/v1/missions/estimate", json=body)
    assert response.json()["tasks"] == 1_000_000
    assert response.json()["would_fit"] is False


async def test_an_agents_own_code_is_bounded_by_the_budget_alone(http: httpx.AsyncClient) -> None:
    told = await estimate(http)
    assert (told["worst_microusd"], told["plan_worst_microusd"]) == (100_000, None)


async def test_an_estimate_looks_at_the_limits_in_force(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await base.of(tenant).ledger.set_limits({"day": 3, "agent/llm/hour": 10**9, "model/x/day": 1}, by="eve")
    told = await estimate(http, agent="llm")
    verdicts = {fit["level"]: fit["verdict"] for fit in told["fits"]}
    assert verdicts == {"mission": "fits", "agent/llm/hour": "fits", "tenant/day": "never"}
    assert told["would_fit"] is False


async def test_history_replaces_assumptions(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    stores, claims = await paid.leased(base, tenant, inputs=20)
    for number, claim in enumerate(claims):
        await paid.call(stores, claim, 100 + number, agent="llm")
    told = await estimate(http, agent="llm")
    (part,) = told["parts"]
    assert (part["low_microusd"], part["likely_microusd"]) == (2 * 102, round(2 * 109.5))
    assert part["rests_on"].startswith("20 calls for 20 tasks of llm in the last 1 days")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agent": "nobody"}, "nobody"),
        ({"inputs": []}, "either inputs or sizes"),
        ({"options": {"times": 0}}, "times"),
        ({"every": "second"}, "every"),
    ],
)
async def test_a_mission_that_could_not_be_submitted_is_not_estimated(
    http: httpx.AsyncClient, changes: dict[str, Any], said: str
) -> None:
    response = await http.post("/v1/missions/estimate", json={**MISSION, **changes})
    assert response.status_code == 422
    assert said in response.text


@pytest.mark.usefixtures("spent")
async def test_the_client_has_all_of_it(url: str, key: str, hub: Hub, tenant: str) -> None:
    async with Client(url, key, retries=0) as client:
        told = await client.spend_report(by=["agent", "day"], since=datetime.now(UTC) - timedelta(days=1))
        assert told.total.cost_microusd == 105
        assert [flag.level for flag in await client.flags()] == ["agent/writer/hour"]
        assert await client.acknowledge(every=True, comment="seen") == 1
        assert await client.flags() == []
        spec = {**MISSION, "agent": "llm"}
        assert (await client.estimate(spec, every="week")).runs_a_year == pytest.approx(YEAR_H / 168)
        with pytest.raises(InvalidRequest, match="colour"):
            await client.spend_report(by=["colour"])
        async with hub.reports.one(tenant):
            with pytest.raises(RateLimited):
                await client.spend_report()
