"""Small submissions under policies that take a moment: many of them in one go, in one thread.

A thread for each policy of each result costs several times what judging a small result does. Here nothing
is slow: little text, no pattern of a tenant's, few steps of a schema, no model. What turns out otherwise, or
fails in any way, gets no verdict here, and is judged by itself (`chimera.judging.evaluate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple

from chimera.core.judge import HumanPolicy, JudgePolicy, RulesPolicy, SchemaPolicy
from chimera.core.lease import Review
from chimera.core.verdict import Opinion, Verdict
from chimera.judging.detector import Detector, prose
from chimera.judging.evaluate import conclude, prepared
from chimera.judging.policy import Policy, Submission
from chimera.judging.schema import SchemaJudge

MOST_CHARS = 4_096
"""Of goal, input, result and actions together."""
MOST_SCHEMA_VALUES = 64
STEPS = 2_000
"""Of one schema on one result."""
TIME_S = 0.1
"""For all of one call: what is not begun then is left."""


class Case(NamedTuple):
    """A result to judge, and what its mission says."""

    review: Review
    goal: str
    data: dict[str, Any]
    policies: Sequence[JudgePolicy]


def is_small(review: Review, goal: str) -> bool:
    """Whether there is little to look at. Results of other tasks are not here yet: they may be large."""
    texts = (goal, review.input_json or "", review.result_json, review.actions_json)
    return not review.depends_on and sum(map(len, texts)) <= MOST_CHARS


def is_quick(policies: Sequence[JudgePolicy]) -> bool:
    """Whether none of them can take long on a small result."""
    return all(map(_is_quick, policies))


def _is_quick(policy: JudgePolicy) -> bool:
    if isinstance(policy, SchemaPolicy):
        return _is_plain(policy.json_schema)
    if isinstance(policy, RulesPolicy):
        return not policy.required and not policy.forbidden
    return isinstance(policy, HumanPolicy)


def _is_plain(schema: Any) -> bool:
    """Few values, and no pattern among them."""
    left, seen = [schema], 0
    while left:
        value = left.pop()
        seen += 1
        if isinstance(value, dict):
            if not value.keys().isdisjoint(("pattern", "patternProperties")):
                return False
            left += value.values()
        elif isinstance(value, list):
            left += value
        if seen + len(left) > MOST_SCHEMA_VALUES:
            return False
    return True


def quickly(
    cases: Sequence[Case], *, detector: Detector, accept_above: float, reject_below: float, judge: str
) -> list[Verdict | None]:
    """Judge small submissions as `evaluate` would. None: not here; judge it by itself."""
    began = monotonic()
    engines: dict[int, list[Policy]] = {}
    topics: dict[str, tuple[str, ...]] = {}
    verdicts: list[Verdict | None] = []
    for case in cases:
        after_s = monotonic() - began
        if after_s > TIME_S:
            verdicts += [None] * (len(cases) - len(verdicts))
            break
        try:
            if case.goal not in topics:
                topics[case.goal] = _topics(detector, [case.goal])
            if id(case.policies) not in engines:
                engines[id(case.policies)] = [prepared(policy) for policy in case.policies]
            submission = _submission(case)
            verdict = conclude(
                [_opinion(engine, submission) for engine in engines[id(case.policies)]],
                tuple(dict.fromkeys((*_topics(detector, _said(submission)), *topics[case.goal]))),
                accept_above=accept_above,
                reject_below=reject_below,
                judge=judge,
                at_ms=case.review.claimed_at_us // 1000 + round(1000 * after_s),
            )
        except Exception:  # noqa: BLE001 (judged by itself it fails again, and is told there)
            verdicts.append(None)
        else:
            verdicts.append(verdict)
    return verdicts


def _submission(case: Case) -> Submission:
    review = case.review
    return Submission(
        goal=case.goal,
        data=case.data,
        input=review.input,
        result=review.result,
        actions=review.actions,
        attempt=review.attempt,
    )


def _opinion(engine: Policy, submission: Submission) -> Opinion:
    if isinstance(engine, SchemaJudge):
        return engine.judge(submission, STEPS)
    return engine.judge(submission)


def _said(submission: Submission) -> list[str]:
    return [prose(submission.result), *(prose(one.said) for one in submission.actions)]


def _topics(detector: Detector, texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(finding.topic for text in texts for finding in detector.find(text))
