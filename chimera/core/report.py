"""Reports of money on the wire: what `GET /v1/spend/report` answers and `chimera spend` shows; and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import Field

from chimera.core.spending import Level, Pace, Year
from chimera.core.usage import By, Use
from chimera.core.views import Page, ReviewView, View


class UseView(View):
    """Some charges together, µ$ and tokens."""

    cost_microusd: int = Field(description="What they come to, corrections included.")
    calls: int = Field(description="Calls that were charged.")
    input_tokens: int = Field(description="The provider's own count, the cached ones with them.")
    cached_tokens: int
    output_tokens: int = Field(description="With those of reasoning.")
    reasoning_tokens: int
    estimated: int = Field(description="Of the calls those charged at their worst case: nobody knows more.")
    refused: int = Field(description="Reservations that a limit refused.")
    over_microusd: int = Field(description="By how much calls cost more than was held for them.")

    @classmethod
    def of(cls, use: Use) -> UseView:
        """What was added up."""
        return cls(**asdict(use))


class RowView(UseView):
    """Charges of one tenant, mission, agent, model or day, or of a combination of these."""

    keys: dict[By, str] = Field(description="What they have in common: `{day: 2026-11-28, model: gpt-5}`.")


class LevelView(View):
    """A limit in force, or a mission's budget."""

    level: str = Field(description="As refusals name it: `tenant/day`, `agent/NAME/day`, `mission`.")
    mission_id: str = ""
    limit_microusd: int
    settled_microusd: int = Field(description="Spent in the present window.")
    held_microusd: int = Field(description="Reserved by calls under way.")
    left_microusd: int
    resets_at: datetime | None = Field(None, description="When its window starts anew; null: never.")
    microusd_per_h: int | None = Field(None, description="How fast it is used up; null: too little is known.")
    cap_at: datetime | None = Field(
        None, description="When nothing is left at that pace; null: not before it starts anew, or not known."
    )
    rests_on: str = Field("", description="What the pace rests on.")

    @classmethod
    def of(cls, level: Level, mission_id: str = "") -> LevelView:
        """How a limit stands."""
        return cls(**asdict(level), left_microusd=level.left_microusd, mission_id=mission_id)


class PaceView(View):
    """How fast money went."""

    microusd_per_h: int
    hours: float = Field(description="The span that it rests on, up to now.")
    spent_microusd: int

    @classmethod
    def of(cls, pace: Pace | None) -> PaceView | None:
        """A pace, if there is one."""
        return None if pace is None else cls(**asdict(pace))


class YearView(View):
    """What a year comes to if things go on so."""

    low_microusd: int
    likely_microusd: int
    high_microusd: int
    unit: str = Field(description="What it rests on: full days, or full hours.")
    units: int = Field(description="How many of them.")
    least_microusd: int = Field(description="The cheapest of them.")
    most_microusd: int = Field(description="The dearest.")

    @classmethod
    def of(cls, year: Year) -> YearView:
        """A year."""
        return cls(**asdict(year))


class WorkersView(View):
    """What workers cost, at the price of an hour that the operator named."""

    hours: float
    price_microusd_per_h: int
    cost_microusd: int = Field(description="No part of any limit, and of no other figure here.")
    rests_on: str


OF_MISSION = "mission "
"""Before its id, in the name of the flag of one mission's budget."""


class FlagView(View):
    """Refusals of one level, of one mission where it is its budget, until somebody acknowledges them."""

    level: str
    mission_id: str = ""
    kind: str = Field(description="The gravest there was: contended, window or exhausted.")
    count: int
    first_at: datetime
    last_at: datetime
    amount_microusd: int = Field(description="The largest reservation that was refused.")
    fits_microusd: int = Field(description="What every level would have granted at the last refusal.")
    limit_microusd: int = Field(description="The limit that refused last.")


class Acknowledged(View):
    """What an acknowledgement did."""

    acknowledged: int = Field(description="Flags that are gone. One that is refused again comes back.")


class ReviewPage(Page[ReviewView]):
    """What waits for a human, and beside it what limits refused."""

    flags: tuple[FlagView, ...] = Field((), description="Refusals that nobody has acknowledged.")


class OutlookView(View):
    """How a tenant's money stands: what is left, how fast it goes. All of it from the ledger's counters."""

    tenant: str
    at: datetime = Field(description="When it was made, by the store's clock.")
    settled_microusd: dict[str, int] = Field(description="The ledger's own counters, by the present windows.")
    held_microusd: int
    levels: tuple[LevelView, ...] = Field(
        description="Every limit that is set, and budgets of open missions."
    )
    missions_left_out: int = Field(0, description="Open missions whose budgets are not among the levels.")
    pace_hour: PaceView | None = Field(description="Over the last hour; null: too little is known.")
    pace_day: PaceView | None = Field(description="Over the last 24 hours.")
    year: YearView | None
    year_note: str = Field(description="What the year rests on, or why there is none.")
    flags: tuple[FlagView, ...] = ()


class ReportView(OutlookView):
    """A tenant's money: where it goes, what is left, how fast it goes."""

    by: tuple[By, ...]
    since: datetime
    until: datetime
    mission_id: str = ""
    rows: tuple[RowView, ...] = Field(description="The dearest first; by day, the oldest first.")
    total: UseView
    folded: int = Field(
        0, description="Charges of the row `(others)`: there were more rows than one report has."
    )
    events: int = Field(description="Entries of the flight recorder that the rows rest on.")
    first_at: datetime | None = Field(description="Of these the first.")
    last_at: datetime | None
    workers: WorkersView | None = Field(None, description="Null unless CHIMERA_WORKER_HOUR_USD is set.")


COLUMNS = (
    "cost_microusd",
    "cost_usd",
    "calls",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "estimated",
    "refused",
    "over_microusd",
)


def rows_of(found: Mapping[tuple[str, ...], Use], by: Sequence[By]) -> tuple[RowView, ...]:
    """Rows in the order of a report."""

    def order(one: tuple[tuple[str, ...], Use]) -> tuple[Any, ...]:
        keys, use = one
        days = tuple(key for key, what in zip(keys, by, strict=True) if what is By.DAY)
        return (*days, -use.cost_microusd, *keys)

    return tuple(
        RowView(keys=dict(zip(by, keys, strict=True)), **asdict(use))
        for keys, use in sorted(found.items(), key=order)
    )


def as_csv(rows: Iterable[RowView], by: Sequence[By]) -> Iterator[str]:
    """Rows as CSV (RFC 4180), a line at a time, the header first."""
    yield _line((*by, *COLUMNS))
    for row in rows:
        usd = f"{row.cost_microusd / 1_000_000:.6f}"
        figures = [usd if name == "cost_usd" else getattr(row, name) for name in COLUMNS]
        yield _line((*(_harmless(row.keys.get(one, "")) for one in by), *figures))


def _line(cells: Iterable[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def _harmless(cell: str) -> str:
    """A spreadsheet takes what begins so for a formula."""
    return f"'{cell}" if cell[:1] in {"=", "+", "-", "@", "\t", "\r"} else cell
