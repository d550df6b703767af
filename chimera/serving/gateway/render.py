"""From what the store holds to what the API answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from chimera.core import trace
from chimera.core.action import ActionStatus, idempotency_key
from chimera.core.mission import MissionBase, MissionStatus
from chimera.core.money import usd
from chimera.core.task import TaskContext, TaskStatus
from chimera.core.views import (
    ActionView,
    MissionView,
    ReviewView,
    SpendView,
    TaskView,
    WhyView,
    WorkerView,
)
from chimera.core.waiting import Standing, Why
from chimera.store.actions import ActionRecord
from chimera.store.ledger import Balance
from chimera.store.missionrecord import MissionRecord
from chimera.store.results import Accepted
from chimera.store.tasks import TaskRecord


def mission_view(record: MissionRecord, tenant: str) -> MissionView:
    """A mission as the API shows it."""
    return MissionView(
        mission_id=record.mission_id,
        tenant=tenant,
        status=record.status,
        reason=record.reason,
        goal=record.state.goal,
        context=record.state.context,
        state_version=record.state.version,
        agent=record.spec.agent,
        priority=record.spec.priority,
        strategy=record.spec.plan.strategy,
        budget_microusd=record.budget_microusd,
        spent_microusd=record.settled_microusd,
        held_microusd=record.held_microusd,
        wanted_microusd=record.wanted_microusd,
        total_tasks=record.total_tasks,
        planned=sum(record.counts.values()),
        counts={TaskStatus(status): count for status, count in record.counts.items()},
        tallies=record.tallies,
        actions={ActionStatus(status): count for status, count in record.actions.items()},
        trace_id=trace.of_mission(tenant, record.mission_id, record.state.traceparent).trace_id,
        submitted_at=instant(record.submitted_at_us),
        finished_at=maybe(record.finished_at_us),
        deadline_at=maybe(record.deadline_us),
        archived_at=maybe(record.archived_at_us),
        next_step=next_step(record),
    )


def why_view(task_id: str, status: TaskStatus | None, found: Why) -> WhyView:
    """What holds a task as the API shows it."""
    return WhyView(
        task_id=task_id,
        status=status,
        cause=found.cause,
        detail=found.detail,
        next_step=found.next_step,
        position=found.position,
        waiting=found.waiting,
        figures=found.figures,
    )


def over(record: TaskRecord, mission: MissionRecord) -> Standing:
    """Where a task stands that left Redis, archived or for the shelf: nothing of it waits."""
    return Standing(
        task_id=record.task_id,
        mission_id=mission.mission_id,
        mission_status=mission.status,
        mission_reason=mission.reason,
        priority=mission.spec.priority,
        now_us=mission.archived_at_us,
        status=TaskStatus(record.status),
        reason=record.reason,
    )


def next_step(record: MissionRecord) -> str:
    """What a person can do about a mission that failed or waits, or whose actions failed; else nothing."""
    if record.archived:
        over = "it is archived, and cannot be brought back: submit it anew"
        return over if record.status is MissionStatus.FAILED else ""
    if record.status is MissionStatus.WAITING_REVIEW:
        waiting = record.counts["ESCALATED"]
        what = "result waits" if waiting == 1 else "results wait"
        return f"{waiting} {what} for a human: `chimera review list` shows what"
    if record.status is MissionStatus.FAILED:
        return _FAILURES.get(record.reason, _unknown_step)(record)
    if failed := record.actions.get(ActionStatus.FAILED, 0):
        return (
            f"{failed} action{'s' if failed != 1 else ''} failed: "
            f"`chimera action list --mission {record.mission_id} --status FAILED` shows why, "
            f"`chimera action retry --mission {record.mission_id}` tries them again"
        )
    return ""


def _budget_step(record: MissionRecord) -> str:
    accepted, total = record.counts["ACCEPTED"], record.total_tasks
    left = total - accepted
    if accepted:
        # What an accepted task cost on average, for all of them, and room for one call's worst case.
        needed = -(-record.settled_microusd * total // accepted) + record.wanted_microusd
        basis = f"going by what the {accepted} accepted tasks cost"
    else:
        needed = record.settled_microusd + record.wanted_microusd * left
        basis = "going by the worst case of a call"
    needed = max(needed, record.budget_microusd + record.wanted_microusd)
    amount = usd(needed).removeprefix("$").replace(",", "")
    return (
        f"{usd(record.settled_microusd)} of {usd(record.budget_microusd)} are spent and the next call may "
        f"cost {usd(record.wanted_microusd)}, with {left} of {total} tasks left: "
        f"`chimera mission resume {record.mission_id} --budget-usd {amount}` lets it go on "
        f"({basis}); what is accepted is kept"
    )


def _deadline_step(record: MissionRecord) -> str:
    return (
        f"{record.counts['ACCEPTED']} of {record.total_tasks} tasks were accepted in time: "
        "submit it again with a greater deadline_s"
    )


def _task_failed_step(record: MissionRecord) -> str:
    return f"one failed task ends this mission (on_task_failure: stop): {_see_tasks(record)}"


def _min_accepted_step(record: MissionRecord) -> str:
    least = record.spec.min_accepted
    return f"{record.counts['ACCEPTED']} of at least {least} tasks were accepted: {_see_tasks(record)}"


def _unknown_step(record: MissionRecord) -> str:
    return f"it ended early ({record.reason or 'no reason was recorded'}): {_see_tasks(record)}"


def _see_tasks(record: MissionRecord) -> str:
    return f"`chimera task list {record.mission_id}` shows which failed and why"


_FAILURES: dict[str, Callable[[MissionRecord], str]] = {
    "budget_exceeded": _budget_step,
    "deadline": _deadline_step,
    "task_failed": _task_failed_step,
    "min_accepted": _min_accepted_step,
}


def task_view(
    record: TaskRecord,
    mission: MissionRecord,
    inputs: Mapping[str, Any],
    actions: Sequence[ActionView] = (),
) -> TaskView:
    """A task as the API shows it; `inputs` are results of the tasks it depends on, by id."""
    return TaskView(
        task_id=record.task_id,
        task_type=agent_of(mission.spec, record.stage),
        priority=mission.spec.priority,
        context=TaskContext(
            goal=mission.state.goal,
            data=mission.state.context,
            input=record.input,
            inputs=dict(inputs),
            feedback=record.feedback,
        ),
        status=TaskStatus(record.status),
        mission_id=record.mission_id,
        stage=record.stage,
        depends_on=dependencies(record),
        attempt=record.attempt,
        tallies=record.tallies,
        reason=record.reason,
        worker=record.worker,
        result=record.result,
        has_result=record.has_result,
        state_version=record.state_version,
        proposed=tuple(action.model_dump(mode="json") for action in record.proposed),
        actions=tuple(actions),
        verdicts=record.verdicts,
        spent_microusd=record.spent_microusd,
        last_error=record.last_error,
        planned_at=instant(record.planned_at_us),
        finished_at=maybe(record.finished_at_us),
    )


def result_lines(results: Sequence[Accepted], spec: MissionBase) -> bytes:
    """Accepted results as the API streams them: a `ResultView` a line."""
    return b"".join([_result_line(one, agent_of(spec, one.stage)) for one in results])


def _result_line(one: Accepted, agent: str) -> bytes:
    # No model is made of it: of a million results that would cost more than all the rest.
    view = {
        "task_id": one.task_id,
        "stage": one.stage,
        "agent": agent,
        "answers": one.answers,
        "result": orjson.Fragment(one.result),
        "state_version": one.state_version,
        "confidence": one.confidence,
        "verdict": one.verdict and orjson.Fragment(one.verdict),
        "attempts": one.attempt,
        "spent_microusd": one.spent_microusd,
        "finished_at": maybe(one.finished_at_us),
        "next": str(one.position + 1),
    }
    return orjson.dumps(view, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def review_view(record: TaskRecord, mission: MissionRecord) -> ReviewView:
    """A task that waits for a human."""
    return ReviewView(
        task_id=record.task_id,
        mission_id=record.mission_id,
        agent=agent_of(mission.spec, record.stage),
        goal=mission.state.goal,
        input=record.input,
        result=record.result,
        has_result=record.has_result,
        actions=tuple(action.model_dump(mode="json") for action in record.proposed),
        reason=record.reason,
        attempt=record.attempt,
        verdicts=record.verdicts,
        spent_microusd=record.spent_microusd,
        last_error=record.last_error,
    )


def action_view(record: ActionRecord, tenant: str) -> ActionView:
    """An action as the API shows it."""
    return ActionView(
        action_id=record.action_id,
        task_id=record.task_id,
        index=record.index,
        status=record.status,
        action=record.action.model_dump(mode="json"),
        idempotency_key=idempotency_key(tenant, record.action_id),
        tries=record.tries,
        lapses=record.lapses,
        answer=record.answer,
        courier=record.courier,
        queued_at=instant(record.queued_at_us),
        due_at=maybe(record.due_at_us),
        finished_at=maybe(record.finished_at_us),
    )


def spend_view(balance: Balance, tenant: str) -> SpendView:
    """A tenant's money."""
    return SpendView(
        tenant=tenant,
        limits_microusd=balance.limits,
        settled_microusd=balance.settled,
        held_microusd=balance.held,
    )


def worker_view(worker: str, said: Mapping[str, str]) -> WorkerView:
    """A worker by what it said at its last heartbeat."""
    return WorkerView(
        worker=worker,
        pid=int(said.get("pid", 0)),
        slots=int(said.get("slots", 0)),
        busy=int(said.get("busy", 0)),
        draining=said.get("drain") == "1",
        seen_at=maybe(int(said.get("beat", 0))),
    )


def dependencies(record: TaskRecord) -> tuple[str, ...]:
    """Ids of the tasks whose results it takes."""
    return tuple(f"{record.mission_id}.{name}" for name in record.depends_on)


def agent_of(spec: MissionBase, stage: str) -> str:
    """Which agent does the tasks of a stage."""
    found = spec.stages.get(stage)
    return found.agent if found else spec.agent


def instant(us: int) -> datetime:
    """µs since the epoch → an aware instant."""
    return datetime.fromtimestamp(us / 1_000_000, UTC)


def maybe(us: int | None) -> datetime | None:
    """The same; None where there is none yet."""
    return instant(us) if us else None
