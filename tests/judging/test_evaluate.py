"""All policies over one submission, and boundaries that no score overrules."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from chimera.core.action import HttpAction
from chimera.core.judge import DEFAULT_JUDGE, HumanPolicy, JudgePolicy, LlmPolicy, RulesPolicy, SchemaPolicy
from chimera.core.verdict import Decision, Verdict
from chimera.errors import InvalidRequest, ModelUnavailable
from chimera.judging import (
    Ask,
    Asker,
    Askers,
    Detector,
    JudgeFailed,
    Submission,
    evaluate,
    load_boundaries,
    validate_policies,
)

SENSITIVE = {
    "politics": "Vote for the Green Party in the general election.",
    "health": "Take 400 mg of ibuprofen every six hours.",
    "financial": "Buy bitcoin now, the price will double.",
    "legal": "You should sue them for defamation.",
}


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_boundaries().detector()


def scoring(score: float, asked: list[str] | None = None) -> Askers:
    async def ask(prompt: str, _schema: dict[str, Any]) -> dict[str, Any]:
        if asked is not None:
            asked.append(prompt)
        return {"score": score, "feedback": ""}

    return always(ask)


def always(ask: Ask) -> Askers:
    return lambda _spec: Asker(ask, self_judging=False)


async def judged(
    detector: Detector, result: Any, score: float, goal: str = "Digest documents", **more: Any
) -> Verdict:
    submission = Submission(goal=goal, result=result)
    rubric: list[JudgePolicy] = [LlmPolicy(rubric="Good?")]
    return await evaluate(submission, rubric, detector=detector, askers=scoring(score), **more)


@pytest.mark.parametrize("topic", SENSITIVE)
@pytest.mark.parametrize("score", [0.99, 0.1])
async def test_a_sensitive_topic_waits_for_a_human_at_any_score(
    detector: Detector, topic: str, score: float
) -> None:
    verdict = await judged(detector, {"answer": SENSITIVE[topic]}, score)
    assert verdict.decision is Decision.ESCALATE
    assert topic in verdict.topics
    assert verdict.confidence == score


@pytest.mark.parametrize("topic", SENSITIVE)
async def test_a_sensitive_goal_waits_for_a_human(detector: Detector, topic: str) -> None:
    verdict = await judged(detector, "Yes.", 0.99, goal=SENSITIVE[topic])
    assert (verdict.decision, topic in verdict.topics) == (Decision.ESCALATE, True)


@pytest.mark.parametrize("topic", SENSITIVE)
@pytest.mark.parametrize("where", ["body", "url", "headers", "text within"])
async def test_an_action_that_says_something_sensitive_waits_for_a_human(
    detector: Detector, topic: str, where: str
) -> None:
    said = SENSITIVE[topic]
    action = {
        "body": HttpAction(url="http://a/", body={"items": [{"text": said}]}),
        "url": HttpAction(url=f"http://a/?text={quote(said)}"),
        "headers": HttpAction(url="http://a/", headers={"X-Subject": said}),
        "text within": HttpAction(url="http://a/", body=json.dumps({"text": said})),
    }[where]
    harmless = HttpAction(url="http://a/", body={"text": "Workers renew their leases."})
    submission = Submission(goal="Digest", result="Fine.", actions=(harmless, action))
    verdict = await evaluate(submission, DEFAULT_JUDGE, detector=detector)
    assert (verdict.decision, topic in verdict.topics) == (Decision.ESCALATE, True)


async def test_a_harmless_action_escalates_nothing(detector: Detector) -> None:
    action = HttpAction(
        url="https://hooks.example.com/services/T0/B0/x", body={"text": "The build is green."}
    )
    submission = Submission(goal="Digest", result="Fine.", actions=(action,))
    assert (await evaluate(submission, DEFAULT_JUDGE, detector=detector)).decision is Decision.ACCEPT


async def test_a_judging_model_reads_the_actions(detector: Detector) -> None:
    asked: list[str] = []
    action = HttpAction(url="http://a/hook", body={"text": "The build is green."})
    for actions in ((), (action,)):
        submission = Submission(goal="g", result="r", actions=actions)
        await evaluate(submission, [LlmPolicy(rubric="?")], detector=detector, askers=scoring(1, asked))
    without, with_one = asked
    assert "Actions" not in without
    assert '"body":{"text":"The build is green."}' in with_one
    assert "http://a/hook" in with_one


@pytest.mark.parametrize(
    ("score", "decision"), [(0.99, "accept"), (0.9, "escalate"), (0.7, "escalate"), (0.69, "reject")]
)
async def test_a_clean_text_is_decided_by_its_score(detector: Detector, score: float, decision: str) -> None:
    verdict = await judged(detector, "Workers renew their leases in one batched call.", score)
    assert (verdict.decision, verdict.topics) == (decision, ())


async def test_a_model_can_add_a_topic_and_not_remove_one(detector: Detector) -> None:
    async def adds(_submission: Submission) -> list[str]:
        return ["health"]

    async def adds_nothing(_submission: Submission) -> list[str]:
        return []

    assert (await judged(detector, "Fine.", 0.99, more_topics=adds)).topics == ("health",)
    assert (await judged(detector, SENSITIVE["legal"], 0.99, more_topics=adds_nothing)).topics == ("legal",)


async def test_the_least_opinion_decides_and_all_are_kept(detector: Detector) -> None:
    policies: list[JudgePolicy] = [SchemaPolicy(json_schema={"type": "string"}), RulesPolicy(min_chars=100)]
    verdict = await evaluate(Submission(goal="g", result="short"), policies, detector=detector, judge="j-1")
    assert verdict.decision is Decision.REJECT
    assert [opinion.policy for opinion in verdict.opinions] == ["schema", "rules"]
    assert "at least 100" in verdict.feedback
    assert verdict.judge == "j-1"


@pytest.mark.parametrize("thresholds", [(0.9, 0.7), (0.5, 0.1), (0.95, 0.9)])
async def test_a_human_policy_waits_under_any_thresholds(
    detector: Detector, thresholds: tuple[float, float]
) -> None:
    above, below = thresholds
    verdict = await evaluate(
        Submission(goal="g", result="r"),
        [HumanPolicy()],
        detector=detector,
        accept_above=above,
        reject_below=below,
    )
    assert (verdict.decision, verdict.confidence) == (Decision.ESCALATE, 0.8)


async def test_a_paid_policy_is_not_asked_about_a_rejected_result(detector: Detector) -> None:
    asked: list[str] = []
    policies: list[JudgePolicy] = [LlmPolicy(rubric="Good?"), RulesPolicy(min_chars=100)]
    await evaluate(
        Submission(goal="g", result="short"), policies, detector=detector, askers=scoring(1, asked)
    )
    assert asked == []


async def test_the_default_judge_rejects_only_nothing(detector: Detector) -> None:
    for result, decision in (("", "reject"), (None, "reject"), ("x", "accept"), ({"a": 1}, "accept")):
        verdict = await evaluate(Submission(goal="g", result=result), DEFAULT_JUDGE, detector=detector)
        assert verdict.decision == decision


async def test_a_broken_model_is_no_rejection(detector: Detector) -> None:
    async def down(_prompt: str, _schema: dict[str, Any]) -> dict[str, Any]:
        raise ModelUnavailable("down")

    async def bug(_prompt: str, _schema: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("x")

    submission = Submission(goal="g", result="r")
    policies: list[JudgePolicy] = [LlmPolicy(rubric="Good?")]
    for ask, error in ((down, ModelUnavailable), (bug, JudgeFailed)):
        with pytest.raises(error):
            await evaluate(submission, policies, detector=detector, askers=always(ask))
    with pytest.raises(JudgeFailed, match="CHIMERA_JUDGE_MODEL"):
        await evaluate(submission, policies, detector=detector)


async def test_a_result_that_waits_for_a_thread_does_not_run_out_of_time(detector: Detector) -> None:
    slow, loop = threading.Event(), asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        held = asyncio.create_task(asyncio.to_thread(slow.wait, 30))
        submission = Submission(goal="g", result="The harbour opens at six.")
        judging = asyncio.create_task(evaluate(submission, DEFAULT_JUDGE, detector=detector, time_limit_s=1))
        await asyncio.sleep(1.5)
        assert not judging.done()
        slow.set()
        assert (await judging).decision == "accept"
        await held


async def test_an_overrun_is_a_failure_and_leaves_the_loop_free(detector: Detector) -> None:
    with pytest.raises(JudgeFailed, match="out of time"):
        await evaluate(
            Submission(goal="g", result="r" * 200_000), DEFAULT_JUDGE, detector=detector, time_limit_s=0.0
        )


async def test_judging_leaves_the_event_loop_to_others(detector: Detector) -> None:
    turns = 0
    done = asyncio.Event()

    async def neighbour() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(neighbour())
    await evaluate(
        Submission(goal="g", result="word " * 20_000), DEFAULT_JUDGE, detector=detector, time_limit_s=60
    )
    done.set()
    await task
    assert turns > 10


def test_policies_that_cannot_run_are_all_named_with_their_place() -> None:
    policies: list[JudgePolicy] = [
        RulesPolicy(required=("(",)),
        SchemaPolicy(json_schema={"type": "odd"}),
        RulesPolicy(min_chars=1),
    ]
    with pytest.raises(InvalidRequest) as refused:
        validate_policies(policies)
    assert [problem.split()[0] for problem in refused.value.problems] == ["judge[0]", "judge[1]"]


def test_judge_failed_survives_pickle() -> None:
    error = pickle.loads(pickle.dumps(JudgeFailed("schema", "why")))
    assert (error.policy, error.cause) == ("schema", "why")
    assert "never" not in str(error)
    assert "why" in str(error)
