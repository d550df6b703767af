"""Why a task waits: where it and what it needs stand → what holds it, and what to do. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from chimera.core.brake import Brake, BrakeCause, BrakeState
from chimera.core.task import Priority, TaskStatus

MEDIUM_BONUS_US = 30_000_000
"""As the scripts have it (lua/include/work.lua; a test compares)."""
MOST_TURNS = 10_000
"""So far a task's position in line is worked out; behind that it is only known to be behind."""
FRESH_US = 10_000_000
"""A refusal of money that is older than this holds up no call that is under way."""

S = TaskStatus


class Cause(StrEnum):
    """What holds a task."""

    DEPENDENCY = "dependency"
    """Tasks whose results it takes are not accepted yet."""
    PAUSE = "pause"
    """Its mission is paused."""
    SUSPENDED = "suspended"
    """Its tenant is suspended."""
    BUDGET = "budget"
    """Its mission's budget."""
    LIMIT = "limit"
    """A limit of the tenant's spend."""
    BRAKE = "brake"
    """The brake of the tenant's spend."""
    SPOKE = "spoke"
    """Its tenant's workers are kept by a spoke, and none leads."""
    CAPACITY = "capacity"
    """It may run: its turn, a worker or a place is still to come."""
    LATER = "later"
    """It is tried again at an instant that is still to come."""
    REVIEW = "review"
    """Its result waits for the judge, or is with it."""
    HUMAN = "human"
    """A human is asked."""
    PLANNING = "planning"
    """It is an input that no task was made of yet."""
    RUNNING = "running"
    """Nothing: a worker has it."""
    DONE = "done"
    """Nothing: it is final, or its mission is over."""


@dataclass(frozen=True, slots=True)
class Line:
    """A mission with tasks that may be claimed; lower ranks go first, high priority before all others."""

    mission_id: str
    priority: Priority
    rank: int
    """Microseconds of the store's clock."""
    ready: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The last reservation of a task that was refused; money in µ$, instants in µs."""

    kind: str
    level: str
    limit: int
    settled: int
    held: int
    amount: int
    resets_at_us: int
    """When the window starts anew; 0 where none will."""
    at_us: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a task and what it needs stand, at one instant of the store's clock.

    Attributes:
        status: None for an input of which no task was made yet.
        index: its place among its mission's tasks that may be claimed, from 0; None when it is not one.
        lines: the tenant's missions with tasks that may be claimed.
        open_inputs: those tasks whose results it takes that are not final, with their status.
        suspended: why the tenant is suspended; None: it is not.
        leases, max_agents: the tenant's tasks under lease, and how many may be (0: no bound).
        workers, slots, busy: the tenant's live workers and their slots.
        fleet, places: live workers that the hub keeps, and how many there may be (0: as many as nodes have
            room for).
        spoke: whether a spoke keeps the tenant's workers: it leads, or is away; None: the hub keeps them.
        reviews, review: results that wait for the judge, and this one's place among them (from 0; None: a
            judge has it, or it is beyond what was looked at).
        unfinished, max_ready: the tenant's unfinished tasks in Redis, and how many may be (0: no bound).
        unshelved, max_unshelved: of a large mission, the accepted tasks that stand in Redis, and how many may
            before its planning waits (0: no bound).
    """

    task_id: str
    mission_id: str
    mission_status: str
    priority: Priority
    now_us: int
    status: TaskStatus | None
    reason: str = ""
    mission_reason: str = ""
    index: int | None = None
    lines: Sequence[Line] = ()
    open_inputs: Sequence[tuple[str, str]] = ()
    not_before_us: int = 0
    claimed_at_us: int = 0
    judged_at_us: int = 0
    refused: Refused | None = None
    brake: Brake = field(default_factory=Brake)
    last_error: str = ""
    worker: str = ""
    judge: str = ""
    suspended: str | None = None
    leases: int = 0
    max_agents: int = 0
    workers: int = 0
    slots: int = 0
    busy: int = 0
    fleet: int = 0
    places: int = 0
    spoke: bool | None = None
    reviews: int = 0
    review: int | None = None
    planned: int = 0
    inputs: int = 0
    unfinished: int = 0
    max_ready: int = 0
    unshelved: int = 0
    max_unshelved: int = 0
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """What holds a task.

    Attributes:
        position: its place in the tenant's line, from 1, if each were claimed alone and nothing new came;
            for a result, in the line for the judge. None when it stands in no line, or far back.
        waiting: how many stand in that line.
        detail, next_step: a sentence each: what holds it, what to do.
        figures: what the sentences are made of.
    """

    cause: Cause
    detail: str
    next_step: str
    position: int | None = None
    waiting: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def position(lines: Sequence[Line], mission_id: str, index: int, now_us: int) -> int | None:
    """When a mission's task of this index is claimed, if tasks were claimed one by one from now: 1 is next.

    None: not within `MOST_TURNS`.
    """
    mine = next(line for line in lines if line.mission_id == mission_id)
    high = mine.priority is Priority.HIGH
    before = 0 if high else sum(line.ready for line in lines if line.priority is Priority.HIGH)
    queue = [
        (line.rank, line.mission_id, line.ready, MEDIUM_BONUS_US if line.priority is Priority.MEDIUM else 0)
        for line in lines
        if (line.priority is Priority.HIGH) == high
    ]
    heapq.heapify(queue)
    left = index
    for turn in range(1, MOST_TURNS - before + 1):
        _, name, ready, bonus = queue[0]
        if name == mission_id:
            if left == 0:
                return before + turn
            left -= 1
        if ready > 1:
            heapq.heapreplace(queue, (now_us - bonus + turn, name, ready - 1, bonus))
        else:
            heapq.heappop(queue)
    return None


def why(at: Standing) -> Why:
    """What holds the task."""
    if at.status is None:
        return _unplanned(at)
    if at.status in {S.ACCEPTED, S.FAILED, S.CANCELLED} or at.mission_status in _OVER:
        return _over(at)
    if at.suspended is not None and at.status in {S.BLOCKED, S.READY}:
        return _suspended(at)
    if at.mission_status == "PAUSED" and at.status in {S.BLOCKED, S.READY, S.REVIEW}:
        return _paused(at)
    return _BY_STATUS[at.status](at)


_OVER = {"COMPLETED", "FAILED", "CANCELLED"}


def _unplanned(at: Standing) -> Why:
    figures: dict[str, Any] = {"planned": at.planned, "inputs": at.inputs}
    if at.suspended is not None and at.mission_status not in _OVER:
        return _suspended(at)
    if at.mission_status in _OVER:
        return Why(
            Cause.DONE, f"its mission is {at.mission_status}", "submit the mission anew", figures=figures
        )
    if at.mission_status == "PAUSED":
        return _paused(at)
    if at.max_ready and at.unfinished >= at.max_ready:
        figures |= {"unfinished": at.unfinished, "max_ready": at.max_ready}
        said = (
            f"the tenant has {at.unfinished:,} unfinished tasks, and its quota plans up to {at.max_ready:,}"
        )
        return Why(
            Cause.PLANNING, said, "wait for tasks to end, or ask the operator for more", figures=figures
        )
    if at.max_unshelved and at.unshelved > at.max_unshelved:
        figures |= {"unshelved": at.unshelved, "max_unshelved": at.max_unshelved}
        said = (
            f"{at.unshelved:,} accepted tasks of its mission wait to leave Redis for the blob store, and its "
            f"planning waits while they are more than {at.max_unshelved:,}"
        )
        step = "nothing, if they leave; else see the log of the orchestrator, and make room in the blob store"
        return Why(Cause.PLANNING, said, step, figures=figures)
    said = f"its mission is planned a window at a time: {at.planned:,} of {at.inputs:,} inputs so far"
    step = "nothing: it is planned as tasks before it end; CHIMERA_PLAN_WINDOW sets the window"
    return Why(Cause.PLANNING, said, step, figures=figures)


def _over(at: Standing) -> Why:
    spent = "budget_exceeded" in (at.reason, at.mission_reason)
    if spent and at.status is not S.ACCEPTED:
        step = f"give it more with `chimera mission resume {at.mission_id} --budget-usd AMOUNT`"
        return Why(Cause.BUDGET, "its mission's budget was used up", step, figures=_money(at.refused))
    said = f"it is {at.status}" + (f" ({at.reason})" if at.reason else "")
    if at.status not in {S.ACCEPTED, S.FAILED, S.CANCELLED}:
        said = f"its mission is {at.mission_status}, and it ends with it"
    step = f"see it with `chimera task get {at.task_id}`"
    if at.status is S.FAILED:
        step = f"try it anew with `chimera task redrive {at.task_id}`"
    return Why(Cause.DONE, said, step)


def _paused(at: Standing) -> Why:
    said = f"its mission is paused ({at.mission_reason or 'no reason given'})"
    return Why(Cause.PAUSE, said, f"let it go on with `chimera mission resume {at.mission_id}`")


def _suspended(at: Standing) -> Why:
    said = f"its tenant is suspended ({at.suspended or 'no reason given'}): nothing of it is claimed"
    return Why(Cause.SUSPENDED, said, "ask the operator, who resumes it with `chimera tenant resume NAME`")


def _asks_human(at: Standing) -> Why:
    said = f"a human is asked ({at.reason or 'unsure'})"
    return Why(Cause.HUMAN, said, f"look with `chimera review show {at.task_id}`, then approve or reject")


def _running(at: Standing) -> Why:
    if at.refused and at.refused.at_us >= at.claimed_at_us and _holds_up(at, at.refused):
        return _unpaid(at, at.refused)
    since = (at.now_us - at.claimed_at_us) / 1e6
    said = f"worker {at.worker} has had it for {since:.0f} s"
    return Why(Cause.RUNNING, said, "nothing: it is under way", figures={"worker": at.worker})


def _blocked(at: Standing) -> Why:
    named = ", ".join(f"{task} ({status})" for task, status in at.open_inputs[:5])
    more = f" and {len(at.open_inputs) - 5} more" if len(at.open_inputs) > 5 else ""
    first = at.open_inputs[0][0] if at.open_inputs else at.mission_id
    return Why(
        Cause.DEPENDENCY,
        f"it takes results that are not accepted yet: {named}{more}"
        if named
        else "its inputs are about to be told",
        f"see what holds the first with `chimera task why {first}`"
        if named
        else "nothing: it goes on in a moment",
        figures={"tasks": [{"task_id": task, "status": status} for task, status in at.open_inputs]},
    )


def _in_review(at: Standing) -> Why:
    if at.refused and at.refused.at_us >= at.judged_at_us and _holds_up(at, at.refused):
        return _unpaid(at, at.refused)
    figures = {"reviews": at.reviews}
    if at.review is not None:
        said = f"{at.review:,} results are judged before its own"
        step = "nothing: it is judged in turn; judges wait for a model where a policy is `llm`"
        return Why(Cause.REVIEW, said, step, at.review + 1, at.reviews, figures)
    said = f"judge {at.judge} has its result" if at.judge else "its result waits for the judge"
    if at.last_error:
        said += f"; the last try failed ({at.last_error[:200]})"
    return Why(Cause.REVIEW, said, "nothing: a judge that fails is followed by another", figures=figures)


def _ready(at: Standing) -> Why:
    if at.not_before_us > at.now_us:
        if at.refused and at.refused.at_us >= at.claimed_at_us:
            return _unpaid(at, at.refused)
        in_s = (at.not_before_us - at.now_us) / 1e6
        said = f"it is tried again in {in_s:.0f} s" + (f" ({at.last_error[:200]})" if at.last_error else "")
        figures: dict[str, Any] = {"not_before_ms": at.not_before_us // 1000}
        return Why(Cause.LATER, said, "nothing: it comes back by itself", figures=figures)
    waiting = sum(line.ready for line in at.lines)
    place = None
    if at.index is not None and any(line.mission_id == at.mission_id for line in at.lines):
        place = position(at.lines, at.mission_id, at.index, at.now_us)
    by, said, step = _capacity(at)
    figures = {
        "by": by,
        "leases": at.leases,
        "max_agents": at.max_agents,
        "workers": at.workers,
        "slots": at.slots,
        "busy": at.busy,
        "places": at.places,
        "places_taken": at.fleet,
    }
    if at.spoke is not None:
        figures |= {"spoke": "leads" if at.spoke else "away"}
    if at.spoke is False and by != "quota":
        return _without_spoke(at, place, waiting, figures)
    return Why(Cause.CAPACITY, said, step, place, waiting, figures)


def _without_spoke(at: Standing, place: int | None, waiting: int, figures: dict[str, Any]) -> Why:
    left = f"nobody starts more than the {at.workers:,} that go on" if at.workers else "no worker is up"
    said = f"its spoke is away: the hub leaves the workers of {at.tenant} to it, and {left}"
    step = (
        "see to `chimera spoke` on the tenant's own cluster, and its log; or let the hub keep the workers: "
        f"`chimera tenant set {at.tenant} --no-spoke`"
    )
    return Why(Cause.SPOKE, said, step, place, waiting, figures)


def _capacity(at: Standing) -> tuple[str, str, str]:
    """Which of quota, places, start and turn it is, in a word; what holds the task; what to do."""
    kept = 1 if at.max_agents > 1 and at.priority is not Priority.HIGH else 0
    if at.max_agents and at.leases >= at.max_agents - kept:
        said = f"the tenant's quota of {at.max_agents:,} agents at once is in use ({at.leases:,} at work)"
        return "quota", said, "wait for some to end, or ask the operator for a larger `max_agents`"
    if not at.workers and at.spoke:
        said = "no worker of this tenant is up yet on its spoke's cluster"
        return (
            "starting",
            said,
            "nothing: its spoke starts one; if none comes, see the log of `chimera spoke`",
        )
    if not at.workers and at.spoke is None and at.fleet and at.fleet >= at.places:
        said = f"all {at.places or at.fleet:,} worker places of the fleet are taken, none by this tenant"
        more = "raise CHIMERA_MAX_WORKERS" if at.places else "add a node for workers"
        return "places", said, f"wait for a place to come free, or let the operator {more}"
    if not at.workers:
        said = "no worker of this tenant is up yet"
        return "starting", said, "nothing: one is started; if none comes, see `chimera doctor`"
    said = f"the tenant's {at.workers:,} workers have {at.busy:,} of {at.slots:,} slots in use"
    return "turn", said, "nothing: it is claimed in its turn; CHIMERA_MAX_WORKERS and CHIMERA_SLOTS make room"


def _holds_up(at: Standing, refused: Refused) -> bool:
    """Whether a refusal still holds up what is under way."""
    braked = refused.level.startswith("brake/") and at.brake.state is not BrakeState.OPEN
    return braked or at.now_us - refused.at_us < FRESH_US


def _unpaid(at: Standing, refused: Refused) -> Why:
    if refused.level == "tenant/suspended":
        return _suspended(at)
    if refused.level.startswith("brake/"):
        return _braked(at, refused)
    if refused.level == "mission":
        cause, whose = Cause.BUDGET, "its mission's budget"
        step = f"give it more with `chimera mission resume {at.mission_id} --budget-usd AMOUNT` when it ends"
    else:
        cause, whose = Cause.LIMIT, f"the limit {refused.level}"
        first = "it can never fit:" if refused.kind == "exhausted" else "wait for its reset, or"
        step = f"{first} let the operator raise it ({_raised(at.tenant, refused.level)})"
    if refused.kind == "contended":
        step = "nothing: it fits once calls under way settle"
    resets = ""
    if refused.resets_at_us > at.now_us:
        resets = f"; it starts anew in {(refused.resets_at_us - at.now_us) / 1e6:.0f} s"
    left = max(0, refused.limit - refused.settled - refused.held)
    said = (
        f"a paid call of {_usd(refused.amount)} does not fit {whose} ({refused.kind}): {_usd(left)} left of "
        f"{_usd(refused.limit)}{resets}"
    )
    return Why(cause, said, step, figures=_money(refused))


def _raised(tenant: str, level: str) -> str:
    """How a limit is raised."""
    if level.startswith("fleet/"):
        window = level.removeprefix("fleet/")
        return f"`chimera fleet limits {window}=USD --reason WHY`, or CHIMERA_FLEET_LIMITS at the next start"
    return f"`chimera tenant set {tenant} --limit {level.removeprefix('tenant/')}=USD --reason WHY`"


def _braked(at: Standing, refused: Refused) -> Why:
    brake = at.brake
    figures: dict[str, Any] = {
        "state": str(brake.state),
        "cause": str(brake.cause),
        "since_ms": brake.since_us // 1000,
        "by": brake.by,
        "reason": brake.reason,
        "amount_microusd": refused.amount,
    }
    if brake.state is BrakeState.OPEN:
        said = f"the tenant's brake refused a paid call of {_usd(refused.amount)}, and is open again"
        return Why(Cause.BRAKE, said, "nothing: it comes back by itself in a moment", figures=figures)
    since = datetime.fromtimestamp(brake.since_us / 1e6, UTC).isoformat(timespec="seconds")
    lets = "only high priority pays" if brake.state is BrakeState.THROTTLED else "nothing paid starts"
    said = f"the tenant's brake is {brake.state} since {since}, so {lets}: {_BRAKED_BY[brake.cause]}"
    if brake.cause is BrakeCause.OPERATOR:
        said += f" ({brake.by}: {brake.reason})"
    step = f"the operator thaws it with `chimera governor thaw {at.tenant}`, once that is seen to"
    if brake.cause not in {BrakeCause.OPERATOR, BrakeCause.CANARY}:
        step = "it goes back by itself when that is over; thaw or override it with `chimera governor`"
    return Why(Cause.BRAKE, said, step, figures=figures)


_BRAKED_BY = {
    BrakeCause.NONE: "no cause is recorded",
    BrakeCause.CALM: "no cause is recorded",
    BrakeCause.BURN: "money was spent faster than planned",
    BrakeCause.PROGRESS: "money was spent and nothing accepted",
    BrakeCause.OPERATOR: "a person froze it",
    BrakeCause.CANARY: "a reservation over its limit was granted, so limits do not hold",
}


def _money(refused: Refused | None) -> dict[str, Any]:
    if refused is None:
        return {}
    return {
        "kind": refused.kind,
        "level": refused.level,
        "limit_microusd": refused.limit,
        "settled_microusd": refused.settled,
        "held_microusd": refused.held,
        "amount_microusd": refused.amount,
        "resets_at_ms": refused.resets_at_us // 1000,
    }


def _usd(microusd: int) -> str:
    return f"${microusd / 1_000_000:.6f}"


_BY_STATUS: dict[TaskStatus, Callable[[Standing], Why]] = {
    S.BLOCKED: _blocked,
    S.READY: _ready,
    S.PENDING: _running,
    S.REVIEW: _in_review,
    S.ESCALATED: _asks_human,
}
