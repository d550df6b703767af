"""The inbox: tasks that wait for a human, longest waiting first, of one tenant or of all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import Field

from chimera.core.views import Damaged, View
from chimera.dashboard.payload import line, seen
from chimera.errors import CorruptRecord
from chimera.runtime.base import Base
from chimera.store.inboxes import Slip, Waiting, slips, topics_of, waiting

PAGE = 25
MOST_LISTED = 1_000
"""Pages go so far: who wants more answers some, or looks at one mission or topic."""
GOAL_CHARS = 160


class InboxRow(View):
    """A task that waits."""

    tenant: str
    task_id: str
    mission_id: str
    agent: str
    goal: str = Field(description="Of its mission, shortened.")
    reason: str = Field(description="judge (unsure, or a sensitive topic), judge_error or state_churn.")
    attempt: int
    confidence: float | None = Field(description="Of the judge's last verdict; null without one.")
    topics: tuple[str, ...] = Field((), description="Sensitive topics that it found.")
    result_bytes: int = Field(description="0: there is none, so it can only be rejected.")
    acts: bool = Field(description="To approve it carries out actions.")
    since: datetime = Field(description="When it began to wait.")


class InboxPanel(View):
    """A page of the inbox."""

    at: datetime
    rows: tuple[InboxRow, ...]
    waiting: int = Field(description="How many wait that the filters let through; without topic: of all.")
    page: int = Field(description="From 1.")
    pages: int
    bounded: bool = Field(description="There are more than pages reach.")
    mission_id: str = ""
    topic: str = ""
    topics: tuple[str, ...] = Field((), description="Topics of this page's rows, to filter by.")
    damaged: tuple[Damaged, ...] = Field((), description="What waits and cannot be read.")


async def inbox_panel(
    base: Base, tenants: Sequence[str], *, page: int = 1, mission_id: str = "", topic: str = ""
) -> InboxPanel:
    """One page of what waits. A page beyond the last is the last.

    Four round trips to Redis at most, for any number of tenants.
    """
    now = datetime.fromtimestamp(await base.of(tenants[0]).missions.now_us() / 1e6, UTC) if tenants else None
    found, total = await waiting(base.redis, tenants, most=MOST_LISTED, mission_id=mission_id)
    bounded = total > len(found)
    if topic:
        topics = await topics_of(base.redis, found)
        found = [one for one, own in zip(found, topics, strict=True) if topic in own]
        total = len(found)
    pages = max(1, -(-len(found) // PAGE))
    page = min(max(1, page), pages)
    some = found[(page - 1) * PAGE : page * PAGE]
    told = await slips(base.redis, some) if some else []
    rows = tuple(_row(one) for one in told if isinstance(one, Slip))
    return InboxPanel(
        at=now or datetime.fromtimestamp(0, UTC),
        rows=rows,
        waiting=total,
        page=page,
        pages=pages,
        bounded=bounded,
        mission_id=mission_id,
        topic=topic,
        topics=tuple(sorted({one for row in rows for one in row.topics} | ({topic} if topic else set()))),
        damaged=tuple(
            Damaged(id=one.task_id, detail=seen(str(said)))
            for one, said in zip(some, told, strict=True)
            if isinstance(said, CorruptRecord)
        ),
    )


async def neighbours(
    base: Base, tenants: Sequence[str], task_id: str
) -> tuple[Waiting | None, Waiting | None]:
    """Which tasks wait before and behind one, for whoever goes through them by key.

    Of one that waits no more: none, and the first.
    """
    found, _ = await waiting(base.redis, tenants, most=MOST_LISTED)
    place = next((index for index, one in enumerate(found) if one.task_id == task_id), None)
    if place is None:
        return None, found[0] if found else None
    before = found[place - 1] if place else None
    return before, found[place + 1] if place + 1 < len(found) else None


def _row(slip: Slip) -> InboxRow:
    one, verdict = slip.waiting, slip.verdict
    return InboxRow(
        tenant=one.tenant,
        task_id=one.task_id,
        mission_id=one.mission_id,
        agent=line(slip.agent, 80),
        goal=line(slip.goal, GOAL_CHARS),
        reason=line(slip.reason, 40),
        attempt=slip.attempt,
        confidence=None if verdict is None else verdict.confidence,
        topics=() if verdict is None else tuple(line(one, 60) for one in verdict.topics[:20]),
        result_bytes=slip.result_bytes,
        acts=slip.actions,
        since=datetime.fromtimestamp(one.since_us / 1e6, UTC),
    )
