from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from fastapi import routing

from chimera.core.plan import SMALL_BYTES, SMALL_TASKS
from chimera.core.verdict import Decision
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app, intake
from tests.serving.gateway.conftest import MISSION, Fleet, submitted


async def test_submit_answers_201_with_the_mission_and_its_place(
    http: httpx.AsyncClient, tenant: str
) -> None:
    response = await http.post("/v1/missions", json=MISSION)
    mission = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/missions/{mission['mission_id']}"
    assert (mission["tenant"], mission["status"], mission["state_version"]) == (tenant, "RUNNING", 1)
    assert (mission["budget_microusd"], mission["total_tasks"], mission["planned"]) == (100_000, 2, 2)
    assert mission["submitted_at"].endswith("Z")
    assert (await http.get(response.headers["Location"])).json() == mission


SMALL: list[dict[str, Any]] = [
    {"inputs": ["x"] * SMALL_TASKS},
    {"inputs": [], "plan": {"strategy": "dag", "nodes": [{"name": "a"}, {"name": "b", "depends_on": ["a"]}]}},
    {"inputs": [1, 2, 3], "plan": {"strategy": "map_reduce", "reduce": {"agent": "echo"}}},
    {"inputs": ["x" * (SMALL_BYTES - 3)]},
]
LARGER: list[dict[str, Any]] = [
    {"inputs": ["x"] * (SMALL_TASKS + 1)},
    {"inputs": ["x"] * SMALL_TASKS, "plan": {"strategy": "map_reduce", "reduce": {"agent": "echo"}}},
    {"inputs": [], "plan": {"strategy": "dag", "nodes": [{"name": f"n{n}"} for n in range(SMALL_TASKS + 1)]}},
    {"inputs": ["x" * (SMALL_BYTES - 2)]},
    {
        "inputs": [],
        "plan": {
            "strategy": "dag",
            "nodes": [{"name": name, "input": "x" * (SMALL_BYTES // 2)} for name in "ab"],
        },
    },
]


@pytest.mark.parametrize("change", SMALL)
async def test_a_small_mission_may_be_claimed_once_it_is_acknowledged(
    http: httpx.AsyncClient, fleet: Fleet, base: Base, change: dict[str, Any]
) -> None:
    response = await http.post("/v1/missions", json={**MISSION, **change})
    mission = response.json()
    assert (response.status_code, mission["status"]) == (201, "RUNNING")
    assert mission["planned"] == mission["total_tasks"] == sum(mission["counts"].values())
    assert (await http.get(response.headers["Location"])).json() == mission
    assert await fleet.work() == mission["counts"]["READY"]
    assert not (base.settings.state_dir / "blobs").exists(), "its tasks have its inputs"


@pytest.mark.parametrize("change", LARGER)
async def test_a_larger_mission_is_planned_by_the_hub(
    http: httpx.AsyncClient, fleet: Fleet, change: dict[str, Any]
) -> None:
    response = await http.post("/v1/missions", json={**MISSION, **change})
    mission = response.json()
    assert (response.status_code, mission["status"], mission["planned"]) == (201, "PLANNING", 0)
    assert (await http.get(response.headers["Location"])).json() == mission
    assert await fleet.work() == 0
    await fleet.plan(mission["mission_id"])
    assert await fleet.work() > 0


async def test_a_mission_over_its_window_is_planned_by_the_hub_however_small(base: Base, key: str) -> None:
    narrow = replace(base, settings=base.settings.model_copy(update={"plan_window": 10}))
    headers = {"Authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(create_app(Hub(narrow)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as http:
        statuses = [
            (await http.post("/v1/missions", json={**MISSION, "inputs": [1] * count})).json()["status"]
            for count in (10, 11)
        ]
    assert statuses == ["RUNNING", "PLANNING"]


async def test_inputs_are_stored_before_the_mission_is_acknowledged(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    inputs = [{"n": 1}, "two", None] * SMALL_TASKS
    mission_id = await submitted(http, inputs=inputs)
    assert await base.blobs.read_inputs(tenant, mission_id, 0, 999) == inputs


async def test_nothing_is_acknowledged_when_the_inputs_cannot_be_stored(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    (base.settings.state_dir / "blobs").write_text("in the way")
    response = await http.post("/v1/missions", json={**MISSION, **LARGER[0]})
    assert response.status_code == 503
    assert "CHIMERA_BLOB_URL" in response.json()["detail"]
    assert await base.of(tenant).missions.list_ids() == []
    await submitted(http)  # a small one needs no place there


async def test_the_same_idempotency_key_gives_the_same_mission(http: httpx.AsyncClient) -> None:
    first = await http.post("/v1/missions", json=MISSION, headers={"Idempotency-Key": "k"})
    again = await http.post("/v1/missions", json=MISSION, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["mission_id"] == again.json()["mission_id"]
    assert len((await http.get("/v1/missions")).json()["items"]) == 1


async def test_fastapi_is_asked_only_about_what_is_wrong(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    solve = vars(routing)["solve_dependencies"]

    async def solving(*args: Any, **more: Any) -> Any:
        asked.append(more["request"].url.path)
        return await solve(*args, **more)

    monkeypatch.setattr(routing, "solve_dependencies", solving)
    assert (await http.post("/v1/missions", json=MISSION)).status_code == 201
    assert (
        await http.post("/v1/missions", json=MISSION, headers={"Idempotency-Key": "k"})
    ).status_code == 201
    assert asked == []
    long = {"Idempotency-Key": "k" * 256}
    for wrong in ({"json": {**MISSION, "goal": ""}}, {"json": MISSION, "headers": long}, {}):
        response = await http.post("/v1/missions", **wrong)  # type: ignore[arg-type]  # (wider than declared, on purpose)
        assert (response.status_code, response.json()["type"]) == (422, "urn:chimera:problem:invalid-request")
    assert len(asked) == 3
    assert len((await http.get("/v1/missions")).json()["items"]) == 2


async def test_an_idempotency_key_of_another_request_is_refused(http: httpx.AsyncClient) -> None:
    await http.post("/v1/missions", json=MISSION, headers={"Idempotency-Key": "k"})
    other = await http.post("/v1/missions", json={**MISSION, "goal": "x"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409
    assert "use a new key" in other.json()["detail"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"budget_usd": 0}, "budget_usd: Input should be greater than 0 (it is 0)"),
        ({"budget_usd": -1}, "budget_usd: Input should be greater than 0 (it is -1)"),
        ({"inputs": []}, "inputs: there are none: give at least one item"),
        ({"priority": "urgent"}, "priority: must be one of 'high', 'medium' or 'low'"),
        ({"budget_us": 1}, "budget_us: there is no such field; did you mean budget_usd?"),
        ({"goal": ""}, "goal: String should have at least 1 character (it is '')"),
        ({"judge": [{"policy": "vibes"}]}, "judge[0]: must have 'policy' one of"),
        (
            {"judge": [{"policy": "rules", "required": ["(a"]}]},
            "judge[0].required[0]: pattern '(a' does not compile",
        ),
        ({"judge": [{"policy": "schema", "schema": {"type": "objekt"}}]}, "judge[0].schema: "),
        ({"agent": "ghost"}, "agent: no agent is named 'ghost'; registered: echo, llm"),
        ({"options": {"times": 0}}, "options.times: 0 is less than the minimum of 1"),
        (
            {"agent": "llm", "options": {"prompt": "{input.nofield} {unknown}"}},
            "options.prompt: {unknown} is no placeholder",
        ),
        (
            {"plan": {"strategy": "map_reduce", "reduce": {"agent": "llm", "options": {"sed": 1}}}},
            "plan.reduce.options.sed: there is no such option; there are: prompt",
        ),
        ({"options": {"tims": 1}}, "options: Additional properties are not allowed"),
        (
            {"plan": {"strategy": "map_reduce", "reduce": {"agent": "ghost"}}},
            "plan.reduce.agent: no agent is named 'ghost'",
        ),
        (
            {
                "inputs": [],
                "plan": {
                    "strategy": "dag",
                    "nodes": [{"name": "a", "depends_on": ["b"]}, {"name": "b", "depends_on": ["a"]}],
                },
            },
            "plan.nodes: depends_on goes in a circle: a → b → a",
        ),
    ],
)
async def test_a_wrong_mission_is_refused_with_its_place_and_nothing_is_submitted(
    http: httpx.AsyncClient, change: dict[str, Any], line: str
) -> None:
    response = await http.post("/v1/missions", json={**MISSION, **change})
    problem = response.json()
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:chimera:problem:invalid-request"
    assert len(problem["problems"]) == 1
    assert problem["problems"][0].startswith(line)
    assert (await http.get("/v1/missions")).json()["items"] == []


async def test_all_problems_are_told_at_once(http: httpx.AsyncClient) -> None:
    wrong = {**MISSION, "budget_usd": 0, "priority": "urgent", "max_attempts": 0}
    problem = (await http.post("/v1/missions", json=wrong)).json()
    assert {line.partition(":")[0] for line in problem["problems"]} == {
        "budget_usd",
        "priority",
        "max_attempts",
    }


MANY = 2_000
NODES = [{"name": "a", "depends_on": [f"n{number}" for number in range(MANY)]}]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "fields": ({f"x{number}": 1 for number in range(MANY)}, "body: more than 1,000 things are wrong with it"),
    "policies": ({"judge": [1] * MANY}, "judge: List should have at most 16 items"),
    "patterns": (
        {"judge": [{"policy": "rules", "required": [1] * MANY}]},
        "judge[0].required: List should have at most 32 items",
    ),
    "nodes": (
        {"inputs": [], "plan": {"strategy": "dag", "nodes": [1] * MANY}},
        "plan.nodes: List should have at most 1,000 items",
    ),
    "dependencies": (
        {"inputs": [], "plan": {"strategy": "dag", "nodes": NODES}},
        "plan.nodes[0].depends_on: List should have at most 1,000 items",
    ),
    "unknown dependencies": (
        {
            "inputs": [],
            "plan": {
                "strategy": "dag",
                "nodes": [
                    {"name": name, "depends_on": [f"n{number}" for number in range(MANY // 4)]}
                    for name in ("a", "b", "c")
                ],
            },
        },
        "body: more than 1,000 things are wrong with it",
    ),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("as_lines", [False, True])
async def test_of_very_many_mistakes_only_so_much_is_told(
    http: httpx.AsyncClient, what: str, as_lines: bool
) -> None:
    change, told = WRONG[what]
    mission = {**MISSION, **change}
    if as_lines:
        body = orjson.dumps({name: value for name, value in mission.items() if name != "inputs"})
        headers = {"Content-Type": "application/x-ndjson"}
        response = await http.post("/v1/missions", content=body + b"\n1\n", headers=headers)
    else:
        response = await http.post("/v1/missions", json=mission)
    assert response.status_code == 422
    (problem,) = response.json()["problems"]
    assert problem.replace("Tuple", "List").replace("1000", "1,000").startswith(told)


@pytest.mark.parametrize("path", ["redrive", "pause", "resume", "cancel", "actions/retry", ""])
async def test_of_very_many_mistakes_in_an_operation_only_their_number_is_told(
    http: httpx.AsyncClient, path: str
) -> None:
    mission_id = await submitted(http)
    address = f"/v1/missions/{mission_id}/{path}".rstrip("/")
    strange = {f"x{number}": 1 for number in range(MANY)}
    response = await http.request("POST" if path else "PATCH", address, json=strange)
    assert response.json()["problems"] == ["body: more than 1,000 things are wrong with it"]
    for name in ("tasks", "actions"):
        response = await http.request("POST" if path else "PATCH", address, json={name: [1] * MANY})
        assert len(response.json()["problems"]) <= 2


async def test_empty_inputs_are_told_among_the_rest(http: httpx.AsyncClient) -> None:
    wrong = {"goal": "", "inputs": [], "budget_usd": -1, "zz": 1}
    problem = (await http.post("/v1/missions", json=wrong)).json()
    places = [line.partition(":")[0] for line in problem["problems"]]
    assert sorted(places) == ["budget_usd", "goal", "inputs", "zz"]
    assert "summary" not in problem
    assert problem["detail"].startswith("the request cannot be taken: 4 things")


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"goal: say", "application/json", "no JSON"),
        (b"{}", "application/yaml", "Content-Type: application/json"),
        (b"", "application/json", "a JSON object is needed"),
        (b"[1]", "application/json", "body: "),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    http: httpx.AsyncClient, content: bytes, kind: str, says: str
) -> None:
    response = await http.post("/v1/missions", content=content, headers={"Content-Type": kind})
    assert response.status_code == 422
    assert says in response.text


async def test_a_too_large_input_is_named_by_its_index(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/missions", json={**MISSION, "inputs": ["a", "b" * 10_000_000]})
    problem = response.json()
    assert response.status_code == 413
    assert (problem["what"], problem["size_bytes"]) == ("inputs[1]", 10_000_002)
    assert problem["setting"] == "CHIMERA_MAX_INPUT_BYTES"


def nested(levels: int) -> Any:
    deep: Any = 0
    for _ in range(levels):
        deep = {"in": deep} if isinstance(deep, list) else [deep]
    return deep


DEEP: dict[str, Callable[[int], dict[str, Any]]] = {
    "inputs[0]": lambda levels: {"inputs": [nested(levels)]},
    "context": lambda levels: {"inputs": [0], "context": {"deep": nested(levels - 1)}},
    "plan.nodes[0].input": lambda levels: {
        "inputs": [],
        "plan": {"strategy": "dag", "nodes": [{"name": "a", "input": nested(levels)}]},
    },
}


@pytest.mark.parametrize("where", DEEP)
async def test_what_is_taken_is_not_too_deep_to_be_read_again(http: httpx.AsyncClient, where: str) -> None:
    mission_id = await submitted(http, **DEEP[where](100))
    assert (await http.get(f"/v1/missions/{mission_id}")).status_code == 200
    assert len((await http.get(f"/v1/missions/{mission_id}/tasks")).json()["items"]) == 1
    for levels in (101, 200, 240):
        response = await http.post("/v1/missions", json={**MISSION, **DEEP[where](levels)})
        assert response.status_code == 422
        assert response.json()["problems"][0].startswith(f"{where}: it cannot be stored")


async def test_missions_are_listed_newest_first_in_pages(http: httpx.AsyncClient) -> None:
    ids = [await submitted(http) for _ in range(3)]
    first = (await http.get("/v1/missions", params={"limit": 2})).json()
    rest = (await http.get("/v1/missions", params={"limit": 2, "after": first["next"]})).json()
    assert [mission["mission_id"] for mission in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None
    assert sorted(ids) == ids


async def test_a_wrong_page_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/missions", params={"limit": 0})).json()["problems"] == [
        "query parameter limit: Input should be greater than or equal to 1 (it is '0')"
    ]
    assert "take it from `next`" in (await http.get("/v1/missions", params={"after": "x"})).json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/missions/nope"),
        ("GET", "/v1/missions/nope/tasks"),
        ("GET", "/v1/missions/nope/results"),
        ("GET", "/v1/missions/nope/events"),
        ("GET", "/v1/missions/nope/watch"),
        ("POST", "/v1/missions/nope/cancel"),
        ("POST", "/v1/missions/nope/pause"),
        ("POST", "/v1/missions/nope/resume"),
        ("GET", "/v1/tasks/nope.0"),
        ("GET", "/v1/reviews/nope.0"),
        ("POST", "/v1/reviews/nope.0/approve"),
        ("POST", "/v1/reviews/nope.0/reject"),
    ],
)
async def test_what_does_not_exist_is_404(http: httpx.AsyncClient, method: str, path: str) -> None:
    response = await http.request(method, path)
    assert response.status_code == 404
    assert "nope" in response.json()["detail"]


async def test_an_edit_grows_the_state_version_once_per_operation(http: httpx.AsyncClient) -> None:
    path = f"/v1/missions/{await submitted(http)}"
    for _ in range(2):
        response = await http.patch(path, json={"goal": "New."}, headers={"Idempotency-Key": "e1"})
    assert (response.json()["goal"], response.json()["state_version"]) == ("New.", 2)
    assert (await http.patch(path, json={"context": {"a": 1}})).json()["state_version"] == 3


async def test_an_edit_of_nothing_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.patch(f"/v1/missions/{await submitted(http)}", json={})
    assert response.status_code == 422
    assert "nothing to change" in response.text


async def test_cancel_ends_a_mission_and_twice_is_fine(http: httpx.AsyncClient) -> None:
    path = f"/v1/missions/{await submitted(http)}"
    for _ in range(2):
        response = await http.post(f"{path}/cancel", json={"reason": "enough"})
        assert (response.json()["status"], response.json()["reason"]) == ("CANCELLED", "enough")
    assert (await http.patch(path, json={"goal": "x"})).status_code == 409


async def test_a_mission_is_paused_and_resumed_once_per_operation(
    http: httpx.AsyncClient, fleet: Fleet
) -> None:
    mission_id = await submitted(http)
    path = f"/v1/missions/{mission_id}"
    await fleet.plan(mission_id)
    for _ in range(2):
        paused = await http.post(
            f"{path}/pause", json={"reason": "prices"}, headers={"Idempotency-Key": "p1"}
        )
        assert (paused.json()["status"], paused.json()["reason"]) == ("PAUSED", "prices")
    assert await fleet.work() == 0
    for _ in range(2):
        resumed = await http.post(f"{path}/resume", headers={"Idempotency-Key": "r1"})
        assert (resumed.json()["status"], resumed.json()["reason"]) == ("RUNNING", "")
    again = await http.post(f"{path}/pause", headers={"Idempotency-Key": "p1"})
    assert again.json()["status"] == "RUNNING", "a late repetition does not pause it anew"
    assert await fleet.work() > 0
    await fleet.judge(Decision.ACCEPT, mission_id)
    over = await http.post(f"{path}/pause")
    assert (over.status_code, over.json()["type"]) == (409, "urn:chimera:problem:invalid-transition")
    assert (await http.post(f"{path}/resume", json={"budget_usd": "-1"})).status_code == 422


async def test_failed_tasks_are_redriven(http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await submitted(http, max_attempts=1)
    await fleet.do(mission_id, Decision.REJECT)
    path = f"/v1/missions/{mission_id}"
    failed = (await http.get(f"{path}/tasks", params={"status": "FAILED"})).json()["items"]
    tasks = [task["task_id"] for task in failed]
    assert tasks
    assert (await http.post(f"{path}/redrive", json={"tasks": []})).status_code == 422
    answer = (await http.post(f"{path}/redrive", json={"tasks": [*tasks, "other.0"]})).json()
    assert (answer["redriven"], answer["mission"]["status"]) == (len(tasks), "RUNNING")
    await fleet.work()
    await fleet.judge(Decision.ACCEPT, mission_id)
    assert (await http.get(path)).json()["status"] == "COMPLETED"


async def test_a_mission_that_is_over_cannot_be_cancelled(http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await submitted(http)
    await fleet.do(mission_id)
    response = await http.post(f"/v1/missions/{mission_id}/cancel")
    assert response.status_code == 409
    assert response.json()["type"] == "urn:chimera:problem:invalid-transition"


async def test_results_are_one_line_each_in_the_order_planned(http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await submitted(http)
    await fleet.do(mission_id)
    client_lines = [
        httpx.Response(200, content=line).json()
        for line in (await http.get(f"/v1/missions/{mission_id}/results")).text.splitlines()
    ]
    assert [line["result"] for line in client_lines] == [{"said": "a"}, {"said": "b"}]
    assert {(line["agent"], line["confidence"], line["attempts"]) for line in client_lines} == {
        ("echo", 0.95, 1)
    }


async def test_tasks_are_listed_by_status_and_in_pages(http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await submitted(http, inputs=["a", "b", "c"])
    await fleet.plan(mission_id)
    await fleet.work(most=1)
    path = f"/v1/missions/{mission_id}/tasks"
    page = (await http.get(path, params={"status": "READY", "limit": 1})).json()
    rest = (await http.get(path, params={"status": "READY", "after": page["next"]})).json()
    assert [task["context"]["input"] for task in page["items"] + rest["items"]] == ["b", "c"]
    assert rest["next"] is None
    review = (await http.get(path, params={"status": "REVIEW"})).json()["items"]
    assert [(task["task_type"], task["priority"], task["attempt"]) for task in review] == [
        ("echo", "medium", 1)
    ]


async def test_an_unknown_task_status_lists_those_there_are(http: httpx.AsyncClient) -> None:
    response = await http.get(f"/v1/missions/{await submitted(http)}/tasks", params={"status": "DONE"})
    assert response.json()["problems"][0].startswith(
        "query parameter status: must be one of 'BLOCKED', 'READY'"
    )


async def test_a_reduce_task_shows_the_results_it_takes(http: httpx.AsyncClient, fleet: Fleet) -> None:
    mission_id = await submitted(http, plan={"strategy": "map_reduce", "reduce": {"agent": "echo"}})
    await fleet.do(mission_id)
    task = (await http.get(f"/v1/tasks/{mission_id}.r1-0")).json()
    assert task["context"]["inputs"] == {f"{mission_id}.0": {"said": "a"}, f"{mission_id}.1": {"said": "b"}}
    assert task["status"] == "READY"


async def test_a_mission_with_too_little_accepted_says_what_to_do(
    http: httpx.AsyncClient, fleet: Fleet
) -> None:
    mission_id = await submitted(http, max_attempts=1)
    await fleet.do(mission_id, Decision.REJECT)
    mission = (await http.get(f"/v1/missions/{mission_id}")).json()
    assert (mission["status"], mission["reason"]) == ("FAILED", "min_accepted")
    assert mission["next_step"].startswith("0 of at least 1 tasks were accepted: `chimera task list")


async def test_too_many_inputs_are_refused(base: Base, key: str) -> None:
    few = replace(base, settings=base.settings.model_copy(update={"max_inputs": 2}))
    transport = httpx.ASGITransport(create_app(Hub(few)))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as http:
        response = await http.post("/v1/missions", json={**MISSION, "inputs": [1, 2, 3]})
    assert response.status_code == 422
    assert response.json()["problems"] == [
        "inputs: 3 items, over the limit of 2: split the mission, or raise CHIMERA_MAX_INPUTS"
    ]


async def test_a_dags_nodes_are_checked_one_by_one(http: httpx.AsyncClient) -> None:
    nodes = [
        {"name": "a", "agent": "ghost"},
        {"name": "b", "depends_on": ["a"], "options": {"times": "x"}},
        {"name": "c", "judge": [{"policy": "rules", "forbidden": ["("]}]},
    ]
    dag = {**MISSION, "inputs": [], "plan": {"strategy": "dag", "nodes": nodes}}
    problems = (await http.post("/v1/missions", json=dag)).json()["problems"]
    assert [line.partition(":")[0] for line in problems] == [
        "plan.nodes[0].agent",
        "plan.nodes[1].options.times",
        "plan.nodes[2].judge[0].forbidden[0]",
    ]


async def test_a_dag_is_taken_with_the_inputs_of_its_nodes(http: httpx.AsyncClient) -> None:
    nodes = [{"name": "a", "input": 1}, {"name": "b", "depends_on": ["a"]}]
    mission_id = await submitted(http, inputs=[], plan={"strategy": "dag", "nodes": nodes})
    mission = (await http.get(f"/v1/missions/{mission_id}")).json()
    assert (mission["strategy"], mission["total_tasks"]) == ("dag", 2)


SCHEMA = {"type": "object", "properties": {f"p{n}": {"type": "string", "pattern": "a"} for n in range(1_300)}}


def many_schemas(nodes: int, policies: int = 16) -> dict[str, Any]:
    judge = [{"policy": "schema", "schema": SCHEMA}] * policies
    plan = {"strategy": "dag", "nodes": [{"name": f"n{n}", "judge": judge} for n in range(nodes)]}
    return {**MISSION, "plan": plan, "inputs": []}


async def test_the_event_loop_runs_on_while_the_schemas_of_a_mission_are_checked(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CHECK_S", 60)
    taken = asyncio.create_task(http.post("/v1/missions", json=many_schemas(nodes=1, policies=4)))
    rounds = 0
    while not taken.done():
        await asyncio.sleep(0.01)
        rounds += 1
    assert (await taken).status_code == 201
    assert rounds > 20


async def test_a_mission_whose_schemas_take_too_long_to_check_is_refused(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CHECK_S", 0.1)
    response = await http.post("/v1/missions", json=many_schemas(nodes=1))
    assert response.status_code == 422
    assert "takes over 0.1 s; use fewer or smaller schemas" in response.json()["detail"]
    assert (await http.get("/v1/missions")).json()["items"] == []


async def test_a_mission_that_is_too_large_beside_its_inputs_is_refused_unread(
    http: httpx.AsyncClient, hub: Hub
) -> None:
    limit = hub.base.settings.max_mission_bytes
    item = "x" * 200_000
    large = await http.post("/v1/missions", json={**MISSION, "inputs": [item] * (limit // len(item) + 1)})
    assert large.status_code == 201
    response = await http.post("/v1/missions", json={**MISSION, "options": {"x": item}, "nodes": "x" * limit})
    assert response.status_code == 413
    problem = response.json()
    assert (problem["what"], problem["limit_bytes"]) == ("the request without its inputs", limit)
    assert problem["setting"] == "CHIMERA_MAX_MISSION_BYTES"


@pytest.mark.parametrize("after", ["9" * 16, "-1", "x", "1.5"])
async def test_a_position_that_no_list_reaches_is_refused(http: httpx.AsyncClient, after: str) -> None:
    mission_id = await submitted(http)
    for path in ("/v1/missions", f"/v1/missions/{mission_id}/tasks", f"/v1/missions/{mission_id}/actions"):
        response = await http.get(path, params={"after": after})
        assert response.status_code == 422
        assert "is no position" in response.json()["detail"]
