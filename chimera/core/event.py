"""Flight-recorder entries: one for each transition, gap-free in sequence per tenant.

A script call writes one stream entry that covers all its transitions and their range of
sequence numbers; ``expand`` turns it back into events.

Numbers belong to an epoch: one life of the store. A store that comes back may have lost its last
writes and give their numbers again; it does so in a new epoch, so epoch and number name one event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, computed_field

VERSION = 1
"""Of the event model: grows when a field changes its meaning. New fields, kinds and details leave it."""

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
    "mission.shelved": "accepted tasks of it are in files in the blob store, and leave Redis",
    "mission.archived": "it is in a file of its own in the blob store, and leaves Redis",
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
    "review.returned": "the judge could not judge it: another try follows",
    "model.called": "one try of a model call that was paid for: tokens, cost, time, sizes and hashes",
    "tool.called": "an agent says that it called a tool, with which arguments and what came of it",
    "slo.breached": "a task of high priority was accepted later than promised (`CHIMERA_SLO_S`)",
    "spend.held": "a reservation was granted",
    "spend.refused": "a reservation was refused",
    "spend.settled": "a call's real cost was charged",
    "spend.released": "a hold ended unspent",
    "spend.expired": "a hold ran out: charged at its worst case if its call was sent, else released",
    "action.proposed": "an agent asks for it with its result: nothing is sent before the verdict",
    "action.queued": "its result was accepted: it may be carried out",
    "action.claimed": "a courier took it under a lease",
    "action.done": "its receiver took it",
    "action.retried": "not taken, or its owner asked again: it is tried once more",
    "action.failed": "given up, with the last answer",
    "worker.started": "a worker joined the tenant's swarm",
    "worker.draining": "a worker was asked to take no more work and leave",
    "worker.ended": "a worker left",
    "fleet.scaled": "the fleet controller, or a spoke, changed how many workers the tenant has, and why",
    "spoke.led": "a spoke took over the tenant's workers, under a new term",
    "spoke.left": "it gave them up",
    "brake.changed": "the tenant's brake moved, or was overridden: from, to, cause, figures, by, reason",
    "limits.set": "the tenant's limits changed",
    "flag.acknowledged": "somebody has seen what a limit refused",
    "quota.set": "what the tenant may have at most changed",
    "tenant.added": "an operator made the tenant",
    "tenant.suspended": "nothing of it is claimed, reserved or submitted until it is resumed",
    "tenant.resumed": "it goes on",
    "tenant.removed": "its keys, quota and limits are gone; what it did stays",
    "tenant.purged": "what was left of a removed tenant's work is deleted; this recorder stays",
    "key.created": "a key may act for it; the key itself is written nowhere",
    "key.rotated": "another key came in a key's place, which ends at the instant that is named",
    "key.revoked": "a key is taken away",
    "export.retried": "somebody had a dead letter of the MCP server tried again",
    "export.dropped": "somebody gave up a dead letter: the MCP server is never told of that event",
    "recorder.epoch": "the store restarted, failed over or was restored: numbers go on in a new epoch",
}
"""Every kind of entry, and what it means."""

ADMINISTRATIVE = ("tenant.", "key.", "quota.", "limits.", "brake.", "export.")
"""How the kinds of administrative acts begin: what the audit shows."""


class Event(BaseModel):
    """One transition. Whoever reads it passes over fields and kinds that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: int = Field(
        VERSION, ge=1, description="Version of this model: it grows when a field's meaning changes."
    )
    tenant: str = Field("", description="Whose recorder it stands in; the fleet's own acts have `*`.")
    epoch: int = Field(
        1, ge=1, description="Grows whenever the store comes back as another process: see `recorder.epoch`."
    )
    seq: int = Field(
        ge=1,
        description="Gap-free per tenant and epoch. A new epoch goes on where the last ends.",
    )
    at: datetime = Field(description="The store's clock, UTC.")
    kind: str = Field(description="What happened: one of the kinds in the recorder's documentation.")
    by: str = Field(description="Who made it: a worker, a judge, a hub replica or a person.")
    mission_id: str = Field("", description="The mission it is about; empty where there is none.")
    task_id: str = Field("", description="The task it is about; empty where there is none.")
    details: dict[str, Any] = Field({}, description="By kind; see the recorder's documentation.")

    @computed_field(description="`TENANT/EPOCH/SEQ`: names this event for ever, wherever it is delivered.")  # type: ignore[prop-decorator]  # (as pydantic documents it)
    @property
    def id(self) -> str:
        """``acme/1/42``."""
        return f"{self.tenant}/{self.epoch}/{self.seq}"


_POSITION = re.compile(r"(\d{1,9})/(\d{1,19}-\d{1,19})/(\d{1,19})")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in one tenant's recorder: right behind an event. Ordered as the events are.

    Epoch 0 is before every event; with an entry it is a place in time: before the events that were
    written after that entry's instant.
    """

    epoch: int
    seq: int
    entry: str = field(compare=False)
    """The stream entry that holds the event: ``<ms>-<n>``, the store's clock."""

    def __str__(self) -> str:
        return f"{self.epoch}/{self.entry}/{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that `str` made the text from. Raises ValueError."""
        match = _POSITION.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:80]!r} is no position in a flight recorder")
        return cls(int(match[1]), int(match[3]), match[2])

    @classmethod
    def before(cls, ms: int) -> Position:
        """Before everything that is written at an instant (ms) or later."""
        return cls(0, 0, f"{max(0, ms - 1)}-{_LAST_OF_MS}")


_LAST_OF_MS = 2**64 - 1
BEGINNING = Position(0, 0, "0-0")
"""Before everything."""


def schema_text() -> str:
    """The JSON Schema of an event, as docs/event.schema.json has it."""
    schema = Event.model_json_schema(mode="serialization")
    schema["properties"]["kind"]["examples"] = sorted(KINDS)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def expand(fields: Mapping[str, str], epoch: int = 1, tenant: str = "") -> Iterator[Event]:
    """The events of one stream entry.

    Args:
        fields: ``seq`` of the last event, ``at`` in µs, ``by``, and ``events``, a JSON list of
            ``[kind, mission_id, task_id, details]``.
        epoch: the epoch it was written in.
        tenant: whose stream it is of.
    """
    entries = json.loads(fields["events"])
    first = int(fields["seq"]) - len(entries) + 1
    at = datetime.fromtimestamp(int(fields["at"]) / 1_000_000, UTC)
    for offset, (kind, mission_id, task_id, details) in enumerate(entries):
        yield Event(
            tenant=tenant,
            epoch=epoch,
            seq=first + offset,
            at=at,
            kind=kind,
            by=fields["by"],
            mission_id=mission_id,
            task_id=task_id,
            # An empty table of Lua's is written as [].
            details=details or {},
        )
