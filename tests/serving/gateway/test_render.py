from __future__ import annotations

from dataclasses import replace

import pytest

from chimera.core.mission import MissionSpec, MissionStatus
from chimera.core.verdict import Decision, Opinion, Verdict
from chimera.core.views import ResultView
from chimera.serving.gateway.render import next_step, result_lines
from chimera.store.missionrecord import STATUSES, MissionRecord, MissionState
from chimera.store.results import Accepted

SPEC = MissionSpec.model_validate({"goal": "g", "inputs": ["a"], "budget_usd": "0.10", "min_accepted": 5})
RECORD = MissionRecord(
    mission_id="m1",
    status=MissionStatus.FAILED,
    reason="",
    state=MissionState(1, "g", {}),
    spec=SPEC,
    inputs=10,
    planned=10,
    planned_all=True,
    total_tasks=10,
    counts={**dict.fromkeys(STATUSES, 0), "ACCEPTED": 4, "CANCELLED": 6},
    tallies={},
    submitted_at_us=1,
    finished_at_us=2,
    deadline_us=None,
    budget_microusd=100_000,
    settled_microusd=96_000,
    held_microusd=0,
    actions={},
    wanted_microusd=7_000,
)


def test_a_spent_budget_says_what_it_would_take() -> None:
    # Four tasks cost 96,000: ten cost 240,000, and one call's worst case must still fit.
    step = next_step(replace(RECORD, reason="budget_exceeded"))
    assert "$0.096000 of $0.100000 are spent and the next call may cost $0.007000" in step
    assert "6 of 10 tasks left" in step
    assert "--budget-usd 0.247000" in step


def test_a_budget_too_small_for_one_call_goes_by_the_worst_case() -> None:
    counts = {**RECORD.counts, "ACCEPTED": 0, "CANCELLED": 10}
    step = next_step(replace(RECORD, reason="budget_exceeded", counts=counts, settled_microusd=0))
    assert "--budget-usd 0.107000` lets it go on (going by the worst case of a call)" in step


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("deadline", "greater deadline_s"),
        ("task_failed", "`chimera task list m1`"),
        ("min_accepted", "4 of at least 5 tasks"),
        ("other", "it ended early (other)"),
    ],
)
def test_each_failure_has_a_next_step(reason: str, says: str) -> None:
    assert says in next_step(replace(RECORD, reason=reason))


@pytest.mark.parametrize("status", [MissionStatus.RUNNING, MissionStatus.COMPLETED, MissionStatus.CANCELLED])
def test_what_goes_well_has_none(status: MissionStatus) -> None:
    assert next_step(replace(RECORD, status=status)) == ""


VERDICT = Verdict(
    decision=Decision.ACCEPT,
    confidence=0.95,
    feedback="well “done”",
    opinions=(Opinion(policy="schema", confidence=1.0, details={"n": 2**70, "of": [0.1, None]}),),
    judge="j1",
    at_ms=1_760_000_000_000,
)


@pytest.mark.parametrize("verdict", [VERDICT, None])
@pytest.mark.parametrize(
    "finished_at_us", [1_760_000_000_000_000, 1_760_000_000_123_450, 1_760_000_000_000_001]
)
@pytest.mark.parametrize(
    "result", ["null", '{"n":123456789012345678901}', '"é\u2028\\n\\u0000"', "[0.1,1e+300]"]
)
def test_a_result_is_streamed_as_its_view_is_written(
    result: str, finished_at_us: int, verdict: Verdict | None
) -> None:
    one = Accepted(
        position=41,
        task_id="m1.41",
        stage="map",
        answers=True,
        attempt=2,
        spent_microusd=7,
        finished_at_us=finished_at_us,
        state_version=3,
        result=result,
        confidence=0.95,
        verdict=verdict.model_dump_json() if verdict else None,
    )
    line = result_lines([one], SPEC)
    view = ResultView.model_validate_json(line)
    assert line.decode() == view.model_dump_json() + "\n"
    assert (view.next, view.attempts, view.verdict, view.agent) == ("42", 2, verdict, SPEC.agent)
    assert view.model_fields_set == set(ResultView.model_fields)
