"""One review: what was asked, what came, what judges said of it, and what an approval sets off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from chimera.core.task import TaskStatus
from chimera.core.verdict import Decision, Verdict
from chimera.core.views import View
from chimera.dashboard.payload import Payload, line, payload, seen
from chimera.errors import CorruptRecord, NotFound
from chimera.runtime.base import Base
from chimera.store.inboxes import standing
from chimera.store.missionrecord import MissionRecord
from chimera.store.tasks import TaskRecord, mission_of

MOST_VERDICTS = 20
MOST_INPUTS = 20
MOST_OPINIONS = 20
WORDS_CHARS = 20_000
"""Of one feedback or error: as long as a person's comment may be."""


class OpinionRow(View):
    """What one policy made of the result."""

    policy: str
    confidence: float
    feedback: str
    details: Payload | None = Field(description="Figures behind the confidence; null where there are none.")


class VerdictRow(View):
    """One verdict."""

    decision: Decision
    confidence: float
    feedback: str
    judge: str = Field(description="A judge's name, or who answered.")
    human: bool
    at: datetime | None
    topics: tuple[str, ...]
    opinions: tuple[OpinionRow, ...]


class ActionRow(View):
    """An action that an approval sets off."""

    words: str = Field(description="What it does, on one line: POST https://…")
    headers: Payload | None
    body: Payload | None


class InputRow(View):
    """A result of another task that this one took in."""

    task_id: str
    result: Payload


class Decided(View):
    """Who answered, where somebody has."""

    decision: Decision
    by: str
    at: datetime | None
    comment: str


class ReviewPanel(View):
    """A task that waits for a human, or did."""

    tenant: str
    task_id: str
    mission_id: str
    status: str
    waits: bool = Field(description="It can be answered.")
    agent: str = ""
    goal: str = ""
    reason: str = ""
    attempt: int = 0
    spent_microusd: int = 0
    last_error: str = ""
    input: Payload | None = None
    inputs: tuple[InputRow, ...] = ()
    result: Payload | None = None
    has_result: bool = False
    actions: tuple[ActionRow, ...] = ()
    feedback: tuple[str, ...] = Field((), description="What earlier attempts were told.")
    verdicts: tuple[VerdictRow, ...] = Field((), description="The newest first.")
    decided: Decided | None = Field(None, description="The last human answer; null: nobody answered yet.")
    damaged: str = Field("", description="Why it cannot be shown. It can be rejected all the same.")


async def review_panel(base: Base, tenant: str, task_id: str) -> ReviewPanel:
    """A task and all that is needed to judge it.

    Raises:
        NotFound: the tenant has no such task.
    """
    mission_id = mission_of(task_id)
    stores = base.of(tenant)
    try:
        reading = await stores.readings.open(mission_id)
        task, _ = await reading.task(task_id)
        needed = [f"{mission_id}.{name}" for name in task.depends_on[:MOST_INPUTS]]
        inputs = await reading.results(needed) if needed else {}
        return _panel(tenant, task, reading.mission, inputs)
    except NotFound:
        raise NotFound(f"there is no task {line(task_id, 100)!r}") from None
    except CorruptRecord as exc:
        status = await stores.tasks.status(task_id)
        return ReviewPanel(
            tenant=tenant,
            task_id=task_id,
            mission_id=mission_id,
            status=status,
            waits=status == TaskStatus.ESCALATED,
            damaged=line(str(exc), 500),
        )


class StandingPanel(View):
    """Whether a task waits for an answer, and who gave one."""

    task_id: str
    status: str
    waits: bool
    since: datetime | None = Field(description="Since when it waits; null: it does not.")
    decided: Decided | None = None


async def standing_panel(base: Base, tenant: str, task_id: str) -> StandingPanel:
    """How a task stands, in one round trip: for whoever has it open while another answers.

    Raises:
        NotFound: it is not in Redis: there is none, or it is archived.
    """
    found = await standing(base.redis, tenant, task_id)
    waits = found.status == TaskStatus.ESCALATED
    return StandingPanel(
        task_id=task_id,
        status=found.status,
        waits=waits,
        since=datetime.fromtimestamp(found.since_us / 1e6, UTC) if found.since_us else None,
        decided=None if waits else _decided(found.last),
    )


async def payload_of(base: Base, tenant: str, task_id: str, which: str) -> Any:
    """The whole input or result of a task, for its download.

    Args:
        which: ``input`` or ``result``.
    Raises:
        NotFound: there is no such task, or it has none.
    """
    reading = await base.of(tenant).readings.open(mission_of(task_id))
    task, _ = await reading.task(task_id)
    if which == "input":
        return task.input
    if which == "result" and task.has_result:
        return task.result
    raise NotFound(f"task {task_id} has no {line(which, 20)}")


def _panel(tenant: str, task: TaskRecord, mission: MissionRecord, inputs: dict[str, Any]) -> ReviewPanel:
    stage = mission.spec.stages.get(task.stage)
    verdicts = tuple(map(_verdict, reversed(task.verdicts[-MOST_VERDICTS:])))
    return ReviewPanel(
        tenant=tenant,
        task_id=task.task_id,
        mission_id=task.mission_id,
        status=task.status,
        waits=task.status == TaskStatus.ESCALATED,
        agent=line(stage.agent if stage else mission.spec.agent, 200),
        goal=seen(mission.state.goal),
        reason=line(task.reason, 100),
        attempt=task.attempt,
        spent_microusd=task.spent_microusd,
        last_error=seen(task.last_error[:WORDS_CHARS]),
        input=None if task.input is None and task.depends_on else payload(task.input),
        inputs=tuple(InputRow(task_id=name, result=payload(value)) for name, value in inputs.items()),
        result=payload(task.result) if task.has_result else None,
        has_result=task.has_result,
        actions=tuple(
            ActionRow(
                words=seen(action.words),
                headers=payload(action.headers) if action.headers else None,
                body=None if action.body is None else payload(action.body),
            )
            for action in task.proposed
        ),
        feedback=tuple(seen(one[:WORDS_CHARS]) for one in task.feedback),
        verdicts=verdicts,
        decided=None
        if task.status == TaskStatus.ESCALATED
        else _decided(task.verdicts[-1] if task.verdicts else None),
    )


def _verdict(verdict: Verdict) -> VerdictRow:
    return VerdictRow(
        decision=verdict.decision,
        confidence=verdict.confidence,
        feedback=seen(verdict.feedback[:WORDS_CHARS]),
        judge=line(verdict.human or verdict.judge, 200),
        human=bool(verdict.human),
        at=_at(verdict),
        topics=tuple(line(one, 60) for one in verdict.topics),
        opinions=tuple(
            OpinionRow(
                policy=line(one.policy, 100),
                confidence=one.confidence,
                feedback=seen(one.feedback[:WORDS_CHARS]),
                details=payload(one.details) if one.details else None,
            )
            for one in verdict.opinions[:MOST_OPINIONS]
        ),
    )


def _decided(last: Verdict | None) -> Decided | None:
    """The answer that ended the wait; None where a judge spoke last, or nobody."""
    if last is None or not last.human:
        return None
    return Decided(
        decision=last.decision,
        by=line(last.human, 200),
        at=_at(last),
        comment=seen(last.feedback[:WORDS_CHARS]),
    )


def _at(verdict: Verdict) -> datetime | None:
    return None if verdict.at_ms is None else datetime.fromtimestamp(verdict.at_ms / 1_000, UTC)
