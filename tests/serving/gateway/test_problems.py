from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chimera import errors
from chimera.client import error_of
from chimera.core.views import Problem
from chimera.errors import BudgetExceeded, ChimeraError, RefusalKind
from chimera.serving.gateway.problems import STATUS, internal, of_error, place

ERRORS: list[type[ChimeraError]] = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, ChimeraError)
]
SAMPLES: dict[str, tuple[Any, ...]] = {
    "LeaseLost": ("m.1", 7, "w1", 5, "PENDING"),
    "InvalidRequest": ("it is wrong", ("goal: is missing",)),
    "RateLimited": ("too many", 3.0),
    "BudgetExceeded": (RefusalKind.WINDOW, "tenant/day", 5, 4, 1, 2, 60.0),
    "QueueFull": ("full", 7.0),
    "PayloadTooLarge": ("inputs[1]", 9, 8, "CHIMERA_MAX_INPUT_BYTES"),
    "HubBusy": ("too many calls", 1.0),
    "AgentCrashed": ("echo", "ValueError: no"),
    "AnswerUnusable": ("gpt", "it was cut off", "{"),
}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_survives_the_wire(error: type[ChimeraError]) -> None:
    original = error(*SAMPLES.get(error.__name__, ("what is wrong, what to do",)))
    response = of_error(original, "r1")
    problem = Problem.model_validate_json(bytes(response.body))
    rebuilt = error_of(problem)
    assert response.status_code == problem.status == STATUS[error][0]
    assert type(rebuilt) is error
    assert str(rebuilt) == str(original)
    assert rebuilt.args == original.args
    assert problem.request_id == "r1"


def test_a_rebuilt_refusal_has_its_kind() -> None:
    rebuilt = error_of(
        Problem.model_validate_json(bytes(of_error(BudgetExceeded(*SAMPLES["BudgetExceeded"]), "").body))
    )
    assert isinstance(rebuilt, BudgetExceeded)
    assert rebuilt.kind is RefusalKind.WINDOW


@pytest.mark.parametrize(
    ("name", "seconds"), [("RateLimited", "3"), ("QueueFull", "7"), ("StoreTimeout", "2")]
)
def test_429_and_503_say_when_to_come_back(name: str, seconds: str) -> None:
    error = getattr(errors, name)(*SAMPLES.get(name, ("away",)))
    assert of_error(error, "").headers["Retry-After"] == seconds


def test_a_subclass_that_is_not_in_the_table_counts_as_its_ancestor() -> None:
    class Newer(errors.NotFound):
        pass

    assert of_error(Newer("gone"), "").status_code == 404


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (401, "Unauthorized"),
        (404, "NotFound"),
        (409, "Conflict"),
        (418, "Rejected"),
        (503, "StoreUnavailable"),
        (500, "BackendError"),
    ],
)
def test_an_unknown_kind_becomes_its_family(status: int, family: str) -> None:
    problem = Problem(type="urn:chimera:problem:newer", title="t", status=status, detail="do this")
    assert type(error_of(problem)).__name__ == family


def test_a_document_that_lost_its_fields_still_becomes_an_error() -> None:
    problem = Problem(type="urn:chimera:problem:budget-exceeded", title="t", status=402, detail="too dear")
    error = error_of(problem)
    assert type(error) is errors.Rejected
    assert str(error) == "too dear"


def test_an_internal_error_tells_nothing_of_the_inside() -> None:
    body = json.loads(bytes(internal("r9").body))
    assert body["status"] == 500
    assert "r9" in body["detail"]


@pytest.mark.parametrize(
    ("loc", "body", "expected"),
    [
        (
            ("plan", "dag", "nodes", 0, "name"),
            {"plan": {"strategy": "dag", "nodes": [{}]}},
            "plan.nodes[0].name",
        ),
        (("judge", 0, "rules", "min_chars"), {"judge": [{"policy": "rules"}]}, "judge[0].min_chars"),
        (("goal",), {}, "goal"),
    ],
)
def test_a_place_is_named_as_the_author_wrote_it(loc: tuple[Any, ...], body: Any, expected: str) -> None:
    assert place(loc, body) == expected


async def test_what_nobody_expected_is_a_problem_with_the_request_id(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("secret")

    response = await http.get("/boom", headers={"X-Request-Id": "r7"})
    assert response.status_code == 500
    assert response.json()["request_id"] == response.headers["X-Request-Id"] == "r7"
    assert "secret" not in response.text
