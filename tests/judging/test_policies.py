"""The policies one by one: confidence, feedback, bounds."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from chimera.core.action import HttpAction
from chimera.core.judge import JudgePolicy, LlmPolicy, RulesPolicy, SchemaPolicy
from chimera.core.verdict import Decision, Opinion, decide
from chimera.judging import JudgeFailed, Submission, combine
from chimera.judging.llm import MAX_QUOTED_CHARS, LlmJudge, prompt
from chimera.judging.patterns import found
from chimera.judging.rules import RulesJudge
from chimera.judging.schema import SchemaJudge

shares = st.floats(0, 1)
policies: TypeAdapter[JudgePolicy] = TypeAdapter(JudgePolicy)


def submission(result: Any, given: Any = None) -> Submission:
    return Submission(goal="Digest documents", input=given, result=result)


def schema_opinion(schema: dict[str, Any], result: Any) -> Opinion:
    return SchemaJudge(SchemaPolicy(json_schema=schema)).judge(submission(result))


def rules_opinion(result: Any, given: Any = None, **rules: Any) -> Opinion:
    return RulesJudge(RulesPolicy.model_validate(rules)).judge(submission(result, given))


@pytest.mark.parametrize(
    ("confidence", "decision"),
    [
        (0.0, "reject"),
        (0.6999, "reject"),
        (0.70, "escalate"),
        (0.80, "escalate"),
        (0.90, "escalate"),
        (0.9001, "accept"),
        (1.0, "accept"),
    ],
)
def test_thresholds_are_inclusive_for_humans(confidence: float, decision: str) -> None:
    assert decide(confidence) == decision


@pytest.mark.parametrize("wrong", [(float("nan"), 0.9, 0.7), (1.1, 0.9, 0.7), (0.5, 0.6, 0.7)])
def test_decide_refuses_figures_that_make_no_sense(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"confidence|thresholds"):
        decide(*wrong)


@given(shares, shares)
def test_more_confidence_never_decides_worse(one: float, other: float) -> None:
    order = [Decision.REJECT, Decision.ESCALATE, Decision.ACCEPT]
    low, high = sorted((one, other))
    assert order.index(decide(low)) <= order.index(decide(high))


@given(st.lists(shares, min_size=1), shares)
def test_a_further_policy_never_raises_confidence(confidences: list[float], further: float) -> None:
    opinions = [Opinion(policy="rules", confidence=c) for c in confidences]
    alone, _ = combine(opinions)
    assert combine([*opinions, Opinion(policy="schema", confidence=further)])[0] <= alone


def test_no_opinion_is_no_ground_to_accept() -> None:
    with pytest.raises(ValueError, match="unjudged"):
        combine([])


def test_a_schema_that_fits_gives_one_and_a_misfit_names_the_place() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "maxLength": 2}}}
    assert schema_opinion(schema, {"a": "ok"}).confidence == 1
    opinion = schema_opinion(schema, {"a": "long"})
    assert opinion.confidence == 0
    assert "$.a" in opinion.feedback


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        ("date", "2026-02-28", "2026-02-30"),
        ("date-time", "2026-02-28T10:00:00Z", "2026-02-28 10:00"),
        ("email", "a@b.org", "a b"),
        ("uri", "https://a.org/b", "a b"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", "::g"),
        ("uuid", "c6b6a3a0-5d2b-4f0e-9a0c-0123456789ab", "c6b6"),
        ("time", "10:00:00Z", "25:00:00Z"),
        ("hostname", "a.example", "-a"),
        ("regex", "a+", "(?<=a)b"),
    ],
)
def test_formats_are_asserted(form: str, right: str, wrong: str) -> None:
    assert schema_opinion({"format": form}, right).confidence == 1
    assert schema_opinion({"format": form}, wrong).confidence == 0


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"$ref": "https://example.org/s"}, "outside"),
        ({"$ref": "file:///etc/passwd"}, "outside"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "2020-12"),
        ({"enum": ["x" * 70_000]}, "bytes"),
        ({"enum": list(range(5_000))}, "values"),
    ],
)
def test_a_schema_over_bounds_is_refused_at_submit(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        policies.validate_python({"policy": "schema", "schema": schema})


def test_a_deep_schema_is_refused_at_submit() -> None:
    schema: dict[str, Any] = {}
    for _ in range(40):
        schema = {"not": schema}
    with pytest.raises(ValidationError, match="deeper"):
        SchemaPolicy(json_schema=schema)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "strange"}, "type"),
        ({"format": "colour"}, "not known"),
        ({"pattern": r"(a)\1"}, "RE2"),
        ({"properties": {"a": {"patternProperties": {"(?=b)": True}}}}, "RE2"),
        ({"patternProperties": {"a": True}, "unevaluatedProperties": False}, "together"),
    ],
)
def test_a_schema_that_cannot_run_is_refused(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SchemaJudge(SchemaPolicy(json_schema=schema))


def test_a_schema_without_end_is_a_failure_and_no_opinion() -> None:
    with pytest.raises(JudgeFailed):
        schema_opinion({"$ref": "#"}, 1)


def test_slow_patterns_run_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "(?:x*a{0,999}b{0,999})c"
    long = submission("a" * 50_000)
    schema = SchemaJudge(SchemaPolicy(json_schema={"not": {"anyOf": [{"pattern": slow}] * 500}}))
    rules = RulesJudge(RulesPolicy(forbidden=(slow,) * 32))
    for judge, module in ((schema, "schema"), (rules, "rules")):
        monkeypatch.setattr(f"chimera.judging.{module}.TIME_LIMIT_S", 0.05)
        began = time.process_time()  # others may have the processor meanwhile
        with pytest.raises(JudgeFailed, match=r"0\.05 s"):
            judge.judge(long)
        assert time.process_time() - began < 5


def test_a_doubling_schema_runs_out_of_steps() -> None:
    defs: dict[str, Any] = {"d0": {"type": "integer"}}
    for n in range(1, 40):
        defs[f"d{n}"] = {"allOf": [{"$ref": f"#/$defs/d{n - 1}"}, {"$ref": f"#/$defs/d{n - 1}"}]}
    with pytest.raises(JudgeFailed, match="steps"):
        SchemaJudge(SchemaPolicy(json_schema={"$defs": defs, "$ref": "#/$defs/d39"}), max_steps=5_000).judge(
            submission(1)
        )


def test_a_reference_that_leads_nowhere_is_a_failure() -> None:
    with pytest.raises(JudgeFailed, match="nowhere"):
        schema_opinion({"$ref": "#/$defs/missing"}, 1)


def test_pattern_properties_and_additional_properties_agree() -> None:
    schema = {"patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}
    assert schema_opinion(schema, {"x-a": 1}).confidence == 1
    assert "'y'" in schema_opinion(schema, {"y": 1}).feedback
    assert schema_opinion(schema, {"x-a": "1"}).confidence == 0


def test_unique_items_uses_the_equality_of_json_schema() -> None:
    assert schema_opinion({"uniqueItems": True}, [1, True, "1"]).confidence == 1
    assert schema_opinion({"uniqueItems": True}, [{"a": 1}, {"a": 1.0}]).confidence == 0
    assert schema_opinion({"uniqueItems": True}, [{"n": i} for i in range(5_000)]).confidence == 1


@given(st.integers(1, 3_000))
def test_patterns_that_backtrack_elsewhere_end_here(length: int) -> None:
    assert not found(r"^(a+)+$", "a" * length + "!")
    assert not found(r"^(a|aa)+$", "a" * length + "!")


@given(st.text(max_size=100))
def test_any_text_can_be_searched(text: str) -> None:
    assert found("", text)


@pytest.mark.parametrize(
    "rules",
    [
        {"min_chars": 10},
        {"max_chars": 2},
        {"required": ["^z"]},
        {"forbidden": ["b"]},
        {"field": "a", "min_chars": 1},
        {"grounded": {"min_share": 0.8}},
    ],
)
def test_a_failing_rule_is_below_the_rejection_threshold(rules: dict[str, Any]) -> None:
    opinion = rules_opinion("abc", "else", **rules)
    assert opinion.confidence <= 0.6
    assert opinion.feedback


def test_rules_that_hold_give_one_and_no_feedback() -> None:
    opinion = rules_opinion(
        {"sentence": "Leases are renewed in batches."},
        {"text": "A worker renews its leases in one batch."},
        field="sentence",
        min_chars=5,
        max_chars=90,
        required=[r"\.$"],
        forbidden=["https?://"],
        grounded={"min_share": 0.8},
    )
    assert (opinion.confidence, opinion.feedback) == (1, "")


def test_invented_words_are_named() -> None:
    opinion = rules_opinion("Workers love bananas", "Workers renew leases", grounded={"min_share": 0.8})
    assert "banana" in opinion.feedback
    assert 0 < opinion.confidence < 0.6


def test_a_nearer_miss_scores_higher() -> None:
    assert rules_opinion("a" * 9, min_chars=10).confidence > rules_opinion("a", min_chars=10).confidence


@pytest.mark.parametrize("rules", [{}, {"min_chars": 5, "max_chars": 4}, {"grounded": {"min_share": 1.5}}])
def test_impossible_rules_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RulesPolicy.model_validate(rules)


async def test_a_model_may_not_judge_itself_without_leave() -> None:
    async def ask(_prompt: str, _schema: dict[str, Any]) -> dict[str, Any]:
        return {"score": 1, "feedback": ""}

    with pytest.raises(JudgeFailed, match="allow_self_judging"):
        await LlmJudge(LlmPolicy(rubric="Good?"), ask, self_judging=True).judge(submission("x"))
    allowed = LlmPolicy(rubric="Good?", allow_self_judging=True)
    opinion = await LlmJudge(allowed, ask, self_judging=True).judge(submission("x"))
    assert opinion.details == {"self_judging": True}


@pytest.mark.parametrize("answer", [{}, {"score": 2, "feedback": ""}, {"score": "high", "feedback": ""}])
async def test_an_answer_that_is_no_score_is_a_failure(answer: dict[str, Any]) -> None:
    async def ask(_prompt: str, _schema: dict[str, Any]) -> dict[str, Any]:
        return answer

    with pytest.raises(JudgeFailed, match="no score"):
        await LlmJudge(LlmPolicy(rubric="Good?"), ask).judge(submission("x"))


def test_the_prompt_holds_rubric_and_result_and_is_bounded() -> None:
    text = prompt("Is it short?", submission("It is.", given="x" * 100_000))
    assert "Is it short?" in text
    assert "It is." in text
    assert "left out" in text
    assert len(text) < 60_000


@pytest.mark.parametrize("hidden", ["result", "action"])
async def test_a_model_never_judges_what_it_is_not_shown(hidden: str) -> None:
    asked: list[str] = []

    async def ask(prompt: str, _schema: dict[str, Any]) -> dict[str, Any]:
        asked.append(prompt)
        return {"score": 1, "feedback": ""}

    said = {"a": "x" * MAX_QUOTED_CHARS, "z": "and this too"}
    action = HttpAction(url="http://example.com/", body=said if hidden == "action" else None)
    long = submission(said if hidden == "result" else "x").model_copy(update={"actions": (action,)})
    with pytest.raises(JudgeFailed, match=f"{hidden}.* over the 24,000 it is shown"):
        await LlmJudge(LlmPolicy(rubric="Good?"), ask).judge(long)
    assert asked == []
