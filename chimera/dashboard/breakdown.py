"""What a tenant's money went to: by mission, agent, model or day. From the recorder, so not every second."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import IntEnum

from pydantic import Field

from chimera.core.report import RowView
from chimera.core.usage import By
from chimera.core.views import View
from chimera.dashboard.payload import line
from chimera.runtime.base import Base
from chimera.runtime.spending import Question, report

MOST_ROWS = 50
"""Of the panel; the CSV has all that a report has."""
CUTS = (By.MODEL, By.AGENT, By.MISSION, By.DAY)
"""What may be chosen. By tenant there is nothing to tell apart here: the costs of all have a line each."""


class Days(IntEnum):
    """How far back it may go."""

    DAY = 1
    WEEK = 7
    MONTH = 30


class BreakdownRow(View):
    """Charges of one model, agent, mission or day."""

    name: str
    cost_microusd: int
    calls: int
    input_tokens: int
    output_tokens: int
    estimated: int = Field(description="Of the calls those charged at their worst case.")
    refused: int = Field(description="Reservations that a limit refused.")


class BreakdownPanel(View):
    """What money went to."""

    tenant: str
    by: By
    days: int
    at: datetime | None = Field(description="As of when; null: it is still being made.")
    took_s: float = Field(0.0, description="How long it took to make.")
    rows: tuple[BreakdownRow, ...] = Field(description="The dearest first; by day, the newest first.")
    left_out: int = Field(description="Rows that are only in the CSV.")
    total_microusd: int
    calls: int
    events: int = Field(description="Entries of the flight recorder that it rests on.")
    workers_microusd: int | None = Field(
        description="What workers cost beside it; null unless CHIMERA_WORKER_HOUR_USD is set."
    )


def question(by: By, days: Days) -> Question:
    """What the panel and its CSV ask."""
    return Question((by,), length=timedelta(days=days))


async def breakdown_panel(base: Base, tenant: str, by: By, days: Days) -> BreakdownPanel:
    """What money went to in the last days. It takes time with what was done in them.

    Raises:
        CorruptRecord, StoreUnavailable: the recorder cannot be read.
    """
    found = await report(base, tenant, question(by, days))
    rows = found.rows[::-1] if by is By.DAY else found.rows
    return BreakdownPanel(
        tenant=tenant,
        by=by,
        days=days,
        at=found.at,
        rows=tuple(_row(row, by) for row in rows[:MOST_ROWS]),
        left_out=max(0, len(rows) - MOST_ROWS),
        total_microusd=found.total.cost_microusd,
        calls=found.total.calls,
        events=found.events,
        workers_microusd=None if found.workers is None else found.workers.cost_microusd,
    )


def unmade(tenant: str, by: By, days: Days) -> BreakdownPanel:
    """What is shown while it is being made."""
    return BreakdownPanel(
        tenant=tenant,
        by=by,
        days=days,
        at=None,
        rows=(),
        left_out=0,
        total_microusd=0,
        calls=0,
        events=0,
        workers_microusd=None,
    )


def _row(row: RowView, by: By) -> BreakdownRow:
    return BreakdownRow(
        name=line(row.keys[by], 200),
        cost_microusd=row.cost_microusd,
        calls=row.calls,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        estimated=row.estimated,
        refused=row.refused,
    )
