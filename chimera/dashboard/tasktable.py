"""A mission's tasks, a page at a time, of a status or a layer: what became of each, and why it waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from itertools import islice

from pydantic import Field

from chimera.core.task import FINAL, TaskStatus
from chimera.core.verdict import Decision
from chimera.core.views import View, WhyView
from chimera.dashboard.drawing.marks import UNPLANNED
from chimera.dashboard.film import UNPLANNED as NOT_MADE
from chimera.dashboard.film import Film, instant
from chimera.dashboard.links import task_href
from chimera.dashboard.payload import HEAD_CHARS, line, payload
from chimera.dashboard.scene import NAMES, bands_of, named
from chimera.store.readings import Reading
from chimera.store.tasks import TaskRecord

PAGE = 25
_LAYERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")

Explain = Callable[[str], Awaitable[WhyView]]
"""Says why a task waits."""


class VerdictLine(View):
    """A verdict, on one line."""

    decision: Decision
    confidence: float
    feedback: str
    judge: str


class TaskRow(View):
    """A task in the table. Texts are cut to a line: the task's own page has all of them."""

    task_id: str
    href: str
    stage: str
    status: str
    attempt: int
    tallies: dict[str, int] = Field(description="Attempts that went wrong, by kind; without those at zero.")
    reason: str
    last_error: str
    feedback: str = Field(description="What the judge said last of an attempt that was rejected.")
    verdicts: tuple[VerdictLine, ...]
    spent_microusd: int
    result: str | None = Field(description="The accepted result, or the one under review, on one line.")
    planned_at: datetime | None
    finished_at: datetime | None
    why: WhyView | None = Field(description="What holds it; null of one that is final.")

    @property
    def name(self) -> str:
        """How its mission calls it."""
        return self.task_id.partition(".")[2]


class LayerChoice(View):
    """Layers that may be chosen."""

    value: str
    title: str
    tasks: int


class TaskTable(View):
    """One page of a mission's tasks."""

    tenant: str
    mission_id: str
    still: bool
    reading: bool
    status: str
    layers: str
    choices: tuple[LayerChoice, ...]
    counts: dict[str, int] = Field(description="By status, of the layers that are chosen.")
    rows: tuple[TaskRow, ...]
    page: int
    pages: int
    of: int = Field(description="How many tasks there are over all pages.")
    unsorted: bool = Field(
        False, description="The mission is too large to be kept whole: no status or layer can be chosen."
    )


async def task_table(
    film: Film,
    reading: Reading,
    *,
    tenant: str,
    whole: bool,
    over: bool,
    status: str,
    layers: str,
    page: int,
    explain: Explain,
) -> TaskTable:
    """A page of the table.

    Args:
        status: a `TaskStatus`, UNPLANNED, or "" for all.
        layers: as `span` takes it, or "" for all.
        page: from 0; behind the last it is the last.
        explain: asked of each task on the page that is not final.
    """
    chosen = span(layers, len(film.roster.layers))
    counts = named(film.counts(len(film))[chosen[0] : chosen[1]])
    of = counts[status] if status else sum(counts.values())
    pages = max(1, -(-of // PAGE))
    page = min(page, pages - 1)
    numbers = select(film, status, chosen, page * PAGE, PAGE)
    made = [number for number in numbers if film.now[number] != NOT_MADE]
    ids = {number: f"{film.mission_id}.{film.roster.name(number)}" for number in numbers}
    records = dict(zip(made, await reading.named([ids[one] for one in made]), strict=True))
    rows = await _rows(tenant, film.mission_id, [(ids[one], records.get(one)) for one in numbers], explain)
    return TaskTable(
        tenant=tenant,
        mission_id=film.mission_id,
        still=over and whole,
        reading=not whole,
        status=status,
        layers=layers,
        choices=_choices(film),
        counts=counts,
        rows=rows,
        page=page,
        pages=pages,
        of=of,
    )


async def plain_table(reading: Reading, *, tenant: str, over: bool, page: int, explain: Explain) -> TaskTable:
    """The same of a mission that has no film: in the order planned, all of them."""
    mission = reading.mission
    of = sum(mission.counts.values())
    pages = max(1, -(-of // PAGE))
    page = min(page, pages - 1)
    records = await reading.tasks(page * PAGE, PAGE)
    rows = await _rows(tenant, mission.mission_id, [(one.task_id, one) for one in records], explain)
    return TaskTable(
        tenant=tenant,
        mission_id=mission.mission_id,
        still=over,
        reading=False,
        status="",
        layers="",
        choices=(),
        counts={**mission.counts, UNPLANNED: max(0, mission.total_tasks - of)},
        rows=rows,
        page=page,
        pages=pages,
        of=of,
        unsorted=True,
    )


def select(film: Film, status: str, layers: tuple[int, int], skip: int, most: int) -> list[int]:
    """Tasks of a status in some layers, by number: those of a page."""
    codes = range(len(NAMES)) if not status else (NAMES.index(status),)
    matching = (number for layer in range(*layers) for number in film.having(codes, layer))
    return list(islice(matching, skip, skip + most))


def span(text: str, layers: int) -> tuple[int, int]:
    """``3`` or ``3-7`` → from a layer to before another; all of them for what names none."""
    match = _LAYERS.fullmatch(text)
    if match is None:
        return 0, layers
    first = int(match[1])
    end = int(match[2] or match[1]) + 1
    return (first, min(end, layers)) if first < min(end, layers) else (0, layers)


def _choices(film: Film) -> tuple[LayerChoice, ...]:
    layers = film.roster.layers
    return tuple(
        LayerChoice(
            value=f"{first}-{end - 1}",
            title=layers[first].title if end - first == 1 else f"layers {first + 1} to {end}",
            tasks=sum(layer.size for layer in layers[first:end]),
        )
        for first, end in bands_of(layers)
    )


async def _rows(
    tenant: str, mission_id: str, tasks: Sequence[tuple[str, TaskRecord | None]], explain: Explain
) -> tuple[TaskRow, ...]:
    open_ = [task_id for task_id, one in tasks if one is None or one.status not in FINAL]
    told = dict(zip(open_, await asyncio.gather(*map(explain, open_)), strict=True))
    return tuple(
        _row(tenant, one, told.get(task_id)) if one else _unmade(tenant, task_id, told.get(task_id))
        for task_id, one in tasks
    )


def _row(tenant: str, one: TaskRecord, why: WhyView | None) -> TaskRow:
    return TaskRow(
        task_id=one.task_id,
        href=task_href(tenant, one.task_id),
        stage=one.stage,
        status=one.status,
        attempt=one.attempt,
        tallies=one.tallies,
        reason=one.reason,
        last_error=line(one.last_error, HEAD_CHARS) if one.status != TaskStatus.ACCEPTED else "",
        feedback=line(one.feedback[-1], HEAD_CHARS) if one.feedback else "",
        verdicts=tuple(
            VerdictLine(
                decision=verdict.decision,
                confidence=verdict.confidence,
                feedback=line(verdict.feedback, HEAD_CHARS),
                judge=verdict.judge,
            )
            for verdict in one.verdicts
        ),
        spent_microusd=one.spent_microusd,
        result=payload(one.result, 4 * HEAD_CHARS).head if one.has_result else None,
        planned_at=instant(one.planned_at_us),
        finished_at=instant(one.finished_at_us) if one.finished_at_us else None,
        why=why,
    )


def _unmade(tenant: str, task_id: str, why: WhyView | None) -> TaskRow:
    return TaskRow(
        task_id=task_id,
        href=task_href(tenant, task_id),
        stage="",
        status=UNPLANNED,
        attempt=0,
        tallies={},
        reason="",
        last_error="",
        feedback="",
        verdicts=(),
        spent_microusd=0,
        result=None,
        planned_at=None,
        finished_at=None,
        why=why,
    )
