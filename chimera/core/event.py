"""Flight-recorder entries: one for each transition, gap-free in sequence per tenant.

A script call writes one stream entry that covers all its transitions and their range of
sequence numbers; ``expand`` turns it back into events.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

KINDS: dict[str, str] = {
    "mission.submitted": "a client's mission was acknowledged",
    "mission.planned": "a window of its tasks was made",
    "mission.running": "its tasks may be claimed, or are again",
    "mission.waiting_review": "all that is left waits for a human",
    "mission.completed": "every task is final",
    "mission.failed": "it ended early or with too little accepted",
    "mission.cancelled": "its owner ended it",
    "mission.paused": "an operator holds it",
    "mission.resumed": "it goes on, from a pause or under a larger budget",
    "mission.edited": "goal or context changed: state_version grew",
    "task.unblocked": "everything it depends on is there",
    "task.claimed": "a worker took it under a lease",
    "task.submitted": "a worker handed in a result",
    "task.returned": "handed back uncounted (drain, budget)",
    "task.erred": "the agent raised; tried again",
    "task.timed_out": "the attempt ran out of time; tried again",
    "task.rescued": "its worker's lease ran out",
    "task.lapsed": "the worker taken for dead was only late: no crash is counted",
    "task.stale": "the mission's state moved on; planned again",
    "task.accepted": "the commit record",
    "task.rejected": "judged too poor; tried again with feedback",
    "task.escalated": "waits for a human",
    "task.approved": "a human accepted it",
    "task.declined": "a human rejected it",
    "task.failed": "gave up, with the reason",
    "task.cancelled": "ended with its mission, or for want of its inputs",
    "task.redriven": "failed, and given a fresh set of attempts",
    "task.revived": "its mission, or what it waits for, came back",
    "review.claimed": "a judge took it under a lease",
    "review.rescued": "its judge's lease ran out",
    "spend.held": "a reservation was granted",
    "spend.refused": "a reservation was refused",
    "spend.settled": "a call's real cost was charged",
    "spend.released": "a hold ended unspent",
    "spend.expired": "a hold ran out: charged at its worst case if its call was sent, else released",
    "action.queued": "its result was accepted: it may be carried out",
    "action.claimed": "a courier took it under a lease",
    "action.done": "its receiver took it",
    "action.retried": "not taken, or its owner asked again: it is tried once more",
    "action.failed": "given up, with the last answer",
    "worker.started": "a worker joined the tenant's swarm",
    "worker.ended": "a worker left",
    "limits.set": "the tenant's limits changed",
}
"""Every kind of entry, and what it means."""


class Event(BaseModel):
    """One transition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: int
    """Gap-free per tenant, from 1."""
    at: datetime
    """The store's clock."""
    kind: str
    by: str
    """Who made it: a worker, a judge, a hub replica or a person."""
    mission_id: str = ""
    task_id: str = ""
    details: dict[str, Any] = {}


def expand(fields: Mapping[str, str]) -> Iterator[Event]:
    """The events of one stream entry.

    Args:
        fields: ``seq`` of the last event, ``at`` in µs, ``by``, and ``events``, a JSON list of
            ``[kind, mission_id, task_id, details]``.
    """
    entries = json.loads(fields["events"])
    first = int(fields["seq"]) - len(entries) + 1
    at = datetime.fromtimestamp(int(fields["at"]) / 1_000_000, UTC)
    for offset, (kind, mission_id, task_id, details) in enumerate(entries):
        yield Event(
            seq=first + offset,
            at=at,
            kind=kind,
            by=fields["by"],
            mission_id=mission_id,
            task_id=task_id,
            # An empty table of Lua's is written as [].
            details=details or {},
        )
