"""Small results judged together: the same verdicts, and whatever may take long is left."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from chimera.core.judge import HumanPolicy, JudgePolicy, LlmPolicy, RulesPolicy, SchemaPolicy
from chimera.core.lease import Review
from chimera.core.verdict import Verdict
from chimera.judging import quick
from chimera.judging.boundaries import load_boundaries
from chimera.judging.evaluate import evaluate
from chimera.judging.policy import Submission
from chimera.judging.quick import MOST_CHARS, Case, is_quick, is_small, quickly

DETECTOR = load_boundaries(None).detector()
NUMBER = SchemaPolicy(
    json_schema={"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}}}
)
BOUNDS: dict[str, Any] = {"accept_above": 0.9, "reject_below": 0.7, "judge": "j"}


def review(result: Any, **changes: Any) -> Review:
    """A result under review."""
    one = Review(
        task_id="m.0",
        token=1,
        attempt=1,
        state_version=1,
        mission_id="m",
        stage="map",
        input_json="1",
        depends_on=(),
        result_json=json.dumps(result),
        judge_errors=0,
        round=0,
        actions_json="",
        claimed_at_us=5_000_000,
    )
    return replace(one, **changes)


def judged(*cases: Case) -> list[Verdict | None]:
    """Quick verdicts."""
    return quickly(cases, detector=DETECTOR, **BOUNDS)


@pytest.mark.parametrize("goal", ["count", "Decide which party to vote for in the election"])
@pytest.mark.parametrize(
    "result",
    [
        {"n": 1},
        {"n": "one"},
        {},
        "",
        {"n": 2, "why": "The patient was given antibiotics for pneumonia."},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "policies",
    [(NUMBER,), (RulesPolicy(min_chars=3),), (NUMBER, HumanPolicy()), (NUMBER, RulesPolicy(max_chars=5))],
    ids=["schema", "rules", "human", "both"],
)
async def test_the_verdict_is_the_one_it_gets_by_itself(
    goal: str, result: Any, policies: tuple[JudgePolicy, ...]
) -> None:
    alone = await evaluate(
        Submission(goal=goal, input=1, result=result), policies, detector=DETECTOR, **BOUNDS
    )
    (together,) = judged(Case(review(result), goal, {}, policies))
    assert together is not None
    assert together.at_ms is not None
    assert together.at_ms >= 5_000
    assert together.model_copy(update={"at_ms": None}) == alone


def test_one_that_cannot_be_judged_here_costs_its_neighbours_nothing() -> None:
    endless = SchemaPolicy(json_schema={"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}})
    good = Case(review({"n": 1}), "count", {}, (NUMBER,))
    broken = Case(review({"n": 1}, result_json="{"), "count", {}, (NUMBER,))
    verdicts = judged(good, broken, Case(review({}), "count", {}, (endless,)), good)
    assert [verdict is not None for verdict in verdicts] == [True, False, False, True]


def test_what_is_not_begun_in_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "TIME_S", -1.0)
    assert judged(*3 * [Case(review({"n": 1}), "count", {}, (NUMBER,))]) == [None, None, None]


def test_only_little_text_is_small() -> None:
    assert is_small(review("x" * (MOST_CHARS - 100)), "g")
    assert not is_small(review("x" * MOST_CHARS), "g")
    assert not is_small(review("x"), "g" * MOST_CHARS)
    assert not is_small(review("x", depends_on=("1",)), "g"), "results of others may be large"


@pytest.mark.parametrize(
    "policy",
    [
        LlmPolicy(rubric="good"),
        RulesPolicy(required=("a+",)),
        SchemaPolicy(json_schema={"properties": {"n": {"pattern": "a+"}}}),
        SchemaPolicy(json_schema={"allOf": [{"patternProperties": {"a+": True}}]}),
        SchemaPolicy(json_schema={"enum": list(range(100))}),
    ],
    ids=["model", "rule", "pattern", "names", "many"],
)
def test_whatever_may_take_long_is_not_quick(policy: JudgePolicy) -> None:
    assert is_quick((NUMBER,))
    assert not is_quick((NUMBER, policy))
