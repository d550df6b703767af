"""All of a mission's policies over one submission: a verdict, or an error that is none.

Policies that cost nothing run first, each in a thread with a time limit, so the event loop stays
free. A thread cannot be stopped: one that overruns is left to end by itself, which it does soon, since
patterns are linear and policies look at the clock between steps; its submission gets `JudgeFailed`. Paid
policies run last, and not at all when the verdict is a rejection already, which no further opinion
could lift above the minimum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import lru_cache, partial
from typing import NamedTuple, TypeVar

from pydantic import TypeAdapter

from chimera.core.judge import HumanPolicy, JudgePolicy, LlmPolicy, RulesPolicy, SchemaPolicy
from chimera.core.verdict import ACCEPT_ABOVE, REJECT_BELOW, Decision, Opinion, Verdict, decide
from chimera.errors import ChimeraError, InvalidRequest
from chimera.judging.detector import Detector, prose
from chimera.judging.human import HumanJudge
from chimera.judging.llm import Ask, LlmJudge
from chimera.judging.policy import TIME_LIMIT_S, JudgeFailed, Policy, Submission, combine
from chimera.judging.rules import RulesJudge
from chimera.judging.schema import SchemaJudge

T = TypeVar("T")

MoreTopics = Callable[[Submission], Awaitable[Iterable[str]]]
Turn = Callable[[], AbstractAsyncContextManager[None]]


class Asker(NamedTuple):
    """How an `llm` policy reaches its model."""

    ask: Ask
    self_judging: bool
    """Whether that model wrote the result."""


Askers = Callable[[LlmPolicy], Asker]


async def evaluate(
    submission: Submission,
    policies: Sequence[JudgePolicy],
    *,
    detector: Detector,
    accept_above: float = ACCEPT_ABOVE,
    reject_below: float = REJECT_BELOW,
    judge: str = "",
    askers: Askers | None = None,
    more_topics: MoreTopics | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    turn: Turn = nullcontext,
) -> Verdict:
    """Judge one submission.

    A sensitive topic in the result, an action or the goal makes the decision `escalate` at any confidence,
    and so does a `human` policy unless another one rejects.

    Args:
        detector: `Boundaries.detector()`; built once.
        askers: gives each `llm` policy its bound model call; bounded in time by the caller.
        more_topics: names further topics (a model's view, say). It can add, never remove.
        time_limit_s: for each policy that runs in a thread, and for the detector; seconds.
        turn: held around what runs in a thread: threads are few, and shared by whoever is judged.
    Raises:
        JudgeFailed: a policy could not judge. Nothing is said about the result.
        ChimeraError: what `askers` and `more_topics` raise of ours, unchanged.
        ValueError: no policies, or thresholds that cross.
    """
    paid = [spec for spec in policies if isinstance(spec, LlmPolicy)]
    opinions = [
        await _in_thread(spec.policy, partial(_judge, spec, submission), time_limit_s, turn)
        for spec in policies
        if not isinstance(spec, LlmPolicy)
    ]
    topics = await find_topics(submission, detector, more_topics, time_limit_s, turn)
    for rubric in paid:
        if opinions and _decision(opinions, accept_above, reject_below) is Decision.REJECT:
            break
        opinions.append(await _ask(rubric, submission, askers))

    return conclude(opinions, topics, accept_above=accept_above, reject_below=reject_below, judge=judge)


def conclude(
    opinions: Sequence[Opinion],
    topics: tuple[str, ...],
    *,
    accept_above: float,
    reject_below: float,
    judge: str,
    at_ms: int | None = None,
) -> Verdict:
    """The verdict that follows from all opinions and the topics found. ValueError without an opinion."""
    confidence, feedback = combine(opinions)
    decision = _decision(opinions, accept_above, reject_below)
    return Verdict(
        decision=Decision.ESCALATE if topics else decision,
        confidence=confidence,
        feedback=feedback,
        opinions=tuple(opinions),
        topics=topics,
        judge=judge,
        at_ms=at_ms,
    )


async def find_topics(
    submission: Submission,
    detector: Detector,
    more_topics: MoreTopics | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    turn: Turn = nullcontext,
) -> tuple[str, ...]:
    """The sensitive topics of the result, its actions and the goal, and those that `more_topics` adds.

    The input is not looked at: a job title taken out of a health text is not health content, and a
    summary of one shows as such in the result.
    """
    texts = (prose(submission.result), submission.goal, *(prose(one.said) for one in submission.actions))
    findings = await _in_thread(
        "boundaries",
        lambda: [finding for text in texts for finding in detector.find(text)],
        time_limit_s,
        turn,
    )
    found = dict.fromkeys(finding.topic for finding in findings)
    if more_topics is not None:
        found |= dict.fromkeys(await _guarded("boundaries", more_topics(submission)))
    return tuple(found)


def validate_policies(policies: Sequence[JudgePolicy], where: str = "judge") -> None:
    """Check at submit what only the engines know: patterns, schemas, formats.

    Raises:
        InvalidRequest: every problem, each with its place (`judge[0]: …`).
    """
    problems = []
    for at, spec in enumerate(policies):
        try:
            if not isinstance(spec, LlmPolicy):
                prepared(spec)
        except ValueError as exc:
            problems.append(f"{where}[{at}] ({spec.policy}): {exc}")
    if problems:
        raise InvalidRequest("a judge policy cannot be run", tuple(problems))


_policy: TypeAdapter[JudgePolicy] = TypeAdapter(JudgePolicy)


def prepared(spec: JudgePolicy) -> Policy:
    """The policy's engine, compiled; kept for the policies in use. ValueError when it cannot run."""
    return _prepared(_policy.dump_json(spec))


@lru_cache(maxsize=256)
def _prepared(spec_json: bytes) -> Policy:
    spec = _policy.validate_json(spec_json)
    if isinstance(spec, SchemaPolicy):
        return SchemaJudge(spec)
    if isinstance(spec, RulesPolicy):
        return RulesJudge(spec)
    if isinstance(spec, HumanPolicy):
        return HumanJudge(spec)
    raise TypeError(f"{spec.policy} has no engine of its own: it needs a model")


def _judge(spec: JudgePolicy, submission: Submission) -> Opinion:
    return prepared(spec).judge(submission)


def _decision(opinions: Sequence[Opinion], accept_above: float, reject_below: float) -> Decision:
    machine = [opinion.confidence for opinion in opinions if opinion.policy != "human"]
    decision = decide(min(machine, default=1.0), accept_above, reject_below)
    asks_human = len(machine) < len(opinions)
    return Decision.ESCALATE if asks_human and decision is Decision.ACCEPT else decision


async def _ask(spec: LlmPolicy, submission: Submission, askers: Askers | None) -> Opinion:
    if askers is None:
        raise JudgeFailed("llm", "this judge has no model; set CHIMERA_JUDGE_MODEL or CHIMERA_MODEL")
    ask, self_judging = askers(spec)
    return await _guarded("llm", LlmJudge(spec, ask, self_judging=self_judging).judge(submission))


async def _in_thread(policy: str, work: Callable[[], T], time_limit_s: float, turn: Turn) -> T:
    async with turn():
        return await _guarded(policy, _timed(work, time_limit_s))


async def _timed(work: Callable[[], T], time_limit_s: float) -> T:
    """Run it in a thread. Its time begins when a thread is free: what waits pays nothing for who is slow."""
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def run() -> T:
        loop.call_soon_threadsafe(begun.set)
        return work()

    running = asyncio.create_task(asyncio.to_thread(run))
    try:
        await begun.wait()
        return await asyncio.wait_for(running, time_limit_s)
    finally:
        running.cancel()


async def _guarded(policy: str, work: Awaitable[T]) -> T:
    """Await `work`; what goes wrong in it is `JudgeFailed`, never an opinion."""
    try:
        return await work
    except ChimeraError:
        raise
    except TimeoutError as exc:
        raise JudgeFailed(policy, "it ran out of time") from exc
    except Exception as exc:
        raise JudgeFailed(policy, f"{type(exc).__name__}: {exc}") from exc
