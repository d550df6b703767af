"""The tools that Chimera offers as an MCP server: each asks a route of the API, with its caller's key."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field

from chimera.core.mission import MISSION_FINAL, MissionStatus
from chimera.core.report import ReportView, ReviewPage
from chimera.core.scope import Scope
from chimera.core.views import (
    EventView,
    GovernorView,
    MissionView,
    Page,
    ResultView,
    ReviewView,
    TaskView,
    View,
    WhyView,
)
from chimera.serving.gateway.inside import part

RESULT_BYTES = 1 << 20
"""Results of one call: a model can read no more at once."""
WATCH_S = 60.0


class Problem(Exception):
    """A route's refusal: the problem document it answered with."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document)
        self.document = document


class Ask(Protocol):
    """Asks the API in the caller's name."""

    async def json(
        self, method: str, path: str, *, body: Any = None, key: str | None = None, **params: Any
    ) -> Any:
        """The answer. `key` is an Idempotency-Key. Raises Problem."""

    def lines(self, path: str, **params: Any) -> Any:
        """The answer's lines as they come (an async context manager). Raises Problem."""

    async def progress(self, done: float, total: float, message: str) -> None:
        """Tell whoever called how far it is."""


class Arguments(BaseModel):
    """What a tool takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


MissionId = Annotated[str, Field(min_length=1, max_length=64, description="The mission's id.")]
TaskId = Annotated[str, Field(min_length=1, max_length=128, description="The task's id, MISSION.NUMBER.")]
Limit = Annotated[int, Field(ge=1, le=100, description="Most items of this page.")]
After = Annotated[str, Field(max_length=64, description="`next` of the page before; empty for the first.")]
IdempotencyKey = Annotated[
    str | None,
    Field(max_length=255, description="The same key again changes nothing and gives the same answer."),
]


class Nothing(Arguments):
    """No arguments."""


class OfMission(Arguments):
    mission_id: MissionId


class OfTask(Arguments):
    task_id: TaskId


class Submit(Arguments):
    goal: str = Field(min_length=1, description="What the mission is for, in words.")
    inputs: list[Any] = Field([], description="One task is made for each item (strings or JSON).")
    budget_usd: str = Field(description='The most it may ever spend, USD, as "0.50".')
    agent: str = Field("llm", description="A registered agent; `llm` asks a model and needs no code.")
    options: dict[str, Any] = Field({}, description="The agent's own options.")
    context: dict[str, Any] = Field({}, description="Facts that every task is given.")
    priority: Literal["high", "medium", "low"] = "medium"
    judge: list[dict[str, Any]] | None = Field(
        None, description='Policies that judge each result: [{"policy": "rules", "min_chars": 20}].'
    )
    more: dict[str, Any] = Field(
        {}, description="Any further field of a mission: plan, deadline_s, max_attempts, min_accepted …"
    )
    idempotency_key: IdempotencyKey = None


class ListMissions(Arguments):
    archived: bool = Field(False, description="Those that are archived; else those that are not.")
    limit: Limit = 20
    after: After = ""


class Watch(OfMission):
    timeout_s: float = Field(
        WATCH_S, ge=1, le=600, description="Come back after so long at the latest, seconds."
    )
    through_review: bool = Field(False, description="Go on while it waits for a human's answer.")


class Results(OfMission):
    limit: Limit = 20
    after: After = ""


class Query(Arguments):
    mission_id: str = Field("", max_length=64, description="Of this mission alone.")
    task_id: str = Field("", max_length=128, description="Of this task alone.")
    kinds: list[str] = Field(
        [], max_length=50, description="As `task.accepted`; `task.*` is all of a noun's."
    )
    since: datetime | None = Field(None, description="Not older than this instant, with its zone.")
    until: datetime | None = Field(None, description="Older than this instant, with its zone.")
    tenant: str = Field("", max_length=64, description="For a key of the fleet: whose recorder.")
    limit: Limit = 50
    after: After = ""


class ListReviews(Arguments):
    limit: Limit = 20


class Answer(OfTask):
    comment: str = Field(
        "", max_length=20_000, description="Kept with the verdict; of a rejection, feedback."
    )
    idempotency_key: IdempotencyKey = None


class Report(Arguments):
    by: list[Literal["mission", "agent", "model", "day"]] = Field(
        ["model"], min_length=1, max_length=4, description="What rows are told apart by."
    )
    since: datetime | None = Field(None, description="30 days before `until`, unless given.")
    until: datetime | None = Field(None, description="Not in it; now, unless given.")
    mission_id: str = Field("", max_length=64, description="Of this mission alone.")


class OfTenant(Arguments):
    tenant: str = Field("", max_length=64, description="For a key of the fleet: whose brake.")


class Reasoned(OfMission):
    reason: str = Field("", max_length=2_000, description="Why, in words; kept with the mission.")
    idempotency_key: IdempotencyKey = None


class Resume(OfMission):
    budget_usd: str | None = Field(None, description="A larger budget, USD; needed when the budget ended it.")
    idempotency_key: IdempotencyKey = None


class Watched(View):
    """A mission at the end of a watch."""

    done: bool = Field(description="It is final, or waits for a human; else the time was up: watch again.")
    mission: MissionView


class ResultsPage(View):
    """Some of a mission's accepted results."""

    items: tuple[ResultView, ...]
    next: str | None = Field(description="Give it as `after` for those that follow; null at the end.")


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        scope: what the key must have; the route asks for the same.
        fleet: a key of the fleet may call it too.
        ends: it ends, commits or starts what cannot be undone.
    """

    name: str
    title: str
    description: str
    scope: Scope
    takes: type[Arguments]
    gives: type[BaseModel]
    call: Callable[[Ask, Any], Awaitable[Any]]
    fleet: bool = False
    ends: bool = False
    idempotent: bool = True

    @property
    def reads(self) -> bool:
        """It changes nothing."""
        return self.scope is Scope.READ


def _mission(mission_id: str) -> str:
    return f"/v1/missions/{part(mission_id)}"


async def submit(ask: Ask, given: Submit) -> Any:
    own = given.model_dump(mode="json", exclude={"more", "idempotency_key"}, exclude_none=True)
    if not given.inputs:
        del own["inputs"]  # a dag has none
    return await ask.json("POST", "/v1/missions", body={**given.more, **own}, key=given.idempotency_key)


async def list_missions(ask: Ask, given: ListMissions) -> Any:
    archived = "true" if given.archived else "false"
    return await ask.json("GET", "/v1/missions", archived=archived, limit=given.limit, after=given.after)


async def get_mission(ask: Ask, given: OfMission) -> Any:
    return await ask.json("GET", _mission(given.mission_id))


async def watch(ask: Ask, given: Watch) -> Any:
    """The mission's stream, until it is final, or waits for a human, or the time is up."""
    mission: dict[str, Any] = {}
    until, done = time.monotonic() + given.timeout_s, False
    async with ask.lines(f"{_mission(given.mission_id)}/watch", within_s=given.timeout_s) as lines:
        async for line in lines:
            if not line.startswith(b"data: {"):
                continue
            if found := orjson.loads(line.removeprefix(b"data: ")):
                mission = found
                counts = mission["counts"]
                ended = sum(counts[status] for status in ("ACCEPTED", "FAILED", "CANCELLED"))
                said = f"{mission['status']}: {counts['ACCEPTED']} of {mission['total_tasks']} accepted"
                await ask.progress(ended, mission["total_tasks"], said)
            waits = mission["status"] == MissionStatus.WAITING_REVIEW and not given.through_review
            done = mission["status"] in MISSION_FINAL or waits
            if done or time.monotonic() >= until:
                break
    if not mission:
        mission = await ask.json("GET", _mission(given.mission_id))
    return {"done": done, "mission": mission}


async def results(ask: Ask, given: Results) -> Any:
    items: list[Any] = []
    size, more = 0, False
    async with ask.lines(f"{_mission(given.mission_id)}/results", after=given.after) as lines:
        async for line in lines:
            size += len(line)
            if len(items) == given.limit or (items and size > RESULT_BYTES):
                more = True
                break
            items.append(orjson.loads(line))
    return {"items": items, "next": items[-1]["next"] if more else None}


async def why(ask: Ask, given: OfTask) -> Any:
    return await ask.json("GET", f"/v1/tasks/{part(given.task_id)}/why")


async def query(ask: Ask, given: Query) -> Any:
    return await ask.json(
        "GET",
        "/v1/recorder/events",
        mission=given.mission_id,
        task=given.task_id,
        kind=",".join(given.kinds),
        since=_instant(given.since),
        until=_instant(given.until),
        tenant=given.tenant,
        limit=given.limit,
        after=given.after,
    )


async def list_reviews(ask: Ask, given: ListReviews) -> Any:
    return await ask.json("GET", "/v1/reviews", limit=given.limit)


async def get_review(ask: Ask, given: OfTask) -> Any:
    return await ask.json("GET", f"/v1/reviews/{part(given.task_id)}")


async def approve(ask: Ask, given: Answer) -> Any:
    return await _answer(ask, given, "approve")


async def reject(ask: Ask, given: Answer) -> Any:
    return await _answer(ask, given, "reject")


async def _answer(ask: Ask, given: Answer, word: str) -> Any:
    path = f"/v1/reviews/{part(given.task_id)}/{word}"
    return await ask.json("POST", path, body={"comment": given.comment}, key=given.idempotency_key)


async def report(ask: Ask, given: Report) -> Any:
    return await ask.json(
        "GET",
        "/v1/spend/report",
        by=",".join(given.by),
        since=_instant(given.since),
        until=_instant(given.until),
        mission=given.mission_id or None,
    )


async def governor(ask: Ask, given: OfTenant) -> Any:
    return await ask.json("GET", "/v1/governor", tenant=given.tenant)


async def cancel(ask: Ask, given: Reasoned) -> Any:
    return await _end(ask, given, "cancel")


async def pause(ask: Ask, given: Reasoned) -> Any:
    return await _end(ask, given, "pause")


async def _end(ask: Ask, given: Reasoned, verb: str) -> Any:
    path = f"{_mission(given.mission_id)}/{verb}"
    return await ask.json("POST", path, body={"reason": given.reason}, key=given.idempotency_key)


async def resume(ask: Ask, given: Resume) -> Any:
    body = {} if given.budget_usd is None else {"budget_usd": given.budget_usd}
    return await ask.json(
        "POST", f"{_mission(given.mission_id)}/resume", body=body, key=given.idempotency_key
    )


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


READ, SUBMIT, OPERATE = Scope.READ, Scope.SUBMIT, Scope.OPERATE

TOOLS: tuple[Tool, ...] = (
    Tool(
        "submit_mission",
        "Submit a mission",
        "Have a fleet of agents work on many inputs within a budget: one task for each input, each result "
        "judged "
        "before it counts. Answers at once with the mission's id; then use watch_mission and "
        "mission_results. "
        "Give an idempotency_key if you may have to repeat the call.",
        SUBMIT,
        Submit,
        MissionView,
        submit,
        idempotent=False,
    ),
    Tool(
        "list_missions",
        "List missions",
        "Missions of this key's tenant, newest first: status, counts of tasks, money.",
        READ,
        ListMissions,
        Page[MissionView],
        list_missions,
    ),
    Tool(
        "get_mission",
        "Look at a mission",
        "One mission as it stands now: status, tasks by status, budget and spending, and next_step, a "
        "sentence that "
        "says what to do when it failed or waits.",
        READ,
        OfMission,
        MissionView,
        get_mission,
    ),
    Tool(
        "watch_mission",
        "Watch a mission",
        "Wait until a mission is final or waits for a human, at most timeout_s, and tell progress "
        "meanwhile. When "
        "`done` is false the time was up: call it again.",
        READ,
        Watch,
        Watched,
        watch,
    ),
    Tool(
        "mission_results",
        "Read results",
        "Accepted results of a mission, in the order of its inputs, a page at a time; also while it still "
        "runs.",
        READ,
        Results,
        ResultsPage,
        results,
    ),
    Tool(
        "why",
        "Why a task waits",
        "What holds one task: its place in line and the cause (dependency, pause, budget, limit, "
        "capacity, a later "
        "try, the judge, a human), with figures and what to do. Task ids are MISSION.NUMBER, from 0.",
        READ,
        OfTask,
        WhyView,
        why,
    ),
    Tool(
        "recorder_query",
        "Query the flight recorder",
        "Every transition that happened, oldest first: of a mission, a task, some kinds, a span of time. "
        "A page may "
        "be empty and still have a `next`: go on with it.",
        READ,
        Query,
        Page[EventView],
        query,
        fleet=True,
    ),
    Tool(
        "list_reviews",
        "List reviews",
        "Tasks that wait for a human's answer, longest waiting first, with input, result and verdicts.",
        READ,
        ListReviews,
        ReviewPage,
        list_reviews,
    ),
    Tool(
        "get_review",
        "Look at a review",
        "One task that waits for a human's answer: what was asked, what would be accepted, why the judge "
        "was unsure.",
        READ,
        OfTask,
        ReviewView,
        get_review,
    ),
    Tool(
        "approve_review",
        "Approve a result",
        "Accept the result of a task that waits for a human. It is committed, and actions it proposes are "
        "carried "
        "out: this cannot be undone. Do it only when a human told you to.",
        OPERATE,
        Answer,
        TaskView,
        approve,
        ends=True,
    ),
    Tool(
        "reject_review",
        "Reject a result",
        "Reject the result of a task that waits for a human: it is tried again with the comment as "
        "feedback, or "
        "fails on its last attempt. Do it only when a human told you to.",
        OPERATE,
        Answer,
        TaskView,
        reject,
        ends=True,
    ),
    Tool(
        "spend_report",
        "Report spending",
        "What money went to, how fast it goes, and how every limit stands. Money is in micro-dollars.",
        READ,
        Report,
        ReportView,
        report,
    ),
    Tool(
        "governor_status",
        "Look at the brake",
        "Whether the tenant's brake lets paid calls start (open, throttled, frozen), why, and on what "
        "figures.",
        READ,
        OfTenant,
        GovernorView,
        governor,
        fleet=True,
    ),
    Tool(
        "cancel_mission",
        "Cancel a mission",
        "End a mission for good; what is accepted stays.",
        SUBMIT,
        Reasoned,
        MissionView,
        cancel,
        ends=True,
    ),
    Tool(
        "pause_mission",
        "Pause a mission",
        "Hold a mission: nothing more of it begins; what is under way is kept. resume_mission lets it go on.",
        SUBMIT,
        Reasoned,
        MissionView,
        pause,
    ),
    Tool(
        "resume_mission",
        "Resume a mission",
        "Let a paused mission go on; or one that its budget ended, with a larger budget_usd.",
        SUBMIT,
        Resume,
        MissionView,
        resume,
    ),
)
"""Every tool."""

BY_NAME = {tool.name: tool for tool in TOOLS}
