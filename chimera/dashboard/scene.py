"""A mission at a moment: its graph, its counts and its money behind one of its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from markupsafe import Markup
from pydantic import Field

from chimera.core.mission import MissionStatus
from chimera.core.views import View
from chimera.dashboard.drawing.graph import Node, draw
from chimera.dashboard.drawing.marks import UNPLANNED, WORDS
from chimera.dashboard.film import CODES, Film, instant
from chimera.dashboard.links import mission_href, task_href
from chimera.dashboard.roster import Layer, Roster
from chimera.dashboard.words import plural
from chimera.store.missionrecord import MissionRecord

MOST_NODES = 200
"""A mission of more tasks is drawn by its layers."""
MOST_BANDS = 48
"""A plan of more layers is drawn by some of them together."""
NAMES = (*CODES, UNPLANNED)
"""A status's name by its code in a film."""


class BandAt(View):
    """Layers of a plan at a moment: one, where there are not many."""

    title: str
    agent: str
    depth: int = Field(description="From 0; what it takes in stands less deep.")
    layers: tuple[int, int] = Field(description="From this layer to before that one.")
    tasks: int
    counts: dict[str, int] = Field(description="Its tasks by status; UNPLANNED: not made yet.")
    needs: tuple[int, ...] = Field(description="Those whose results it takes in, by their place here.")


class TaskAt(View):
    """A task at a moment."""

    task_id: str
    status: str
    depth: int
    needs: tuple[int, ...]


class ScenePanel(View):
    """A mission behind one of its events."""

    tenant: str
    mission_id: str
    still: bool = Field(
        description="Nothing of it changes any more: a finished mission, or a moment gone by."
    )
    live: bool = Field(description="It is the newest event.")
    reading: bool = Field(description="The flight recorder is still being read: more events follow.")
    index: int = Field(description="How many of the mission's events lead here.")
    events: int = Field(description="How many it has so far.")
    epoch: int
    seq: int = Field(description="The recorder's number of the last of them.")
    at: datetime | None
    kind: str = Field(description="Of that event.")
    task_id: str = Field(description="Its task; empty without one.")
    elapsed_s: float = Field(description="Since the mission was submitted.")
    share: float = Field(description="Of all the time it took so far, 0 to 1.")
    status: MissionStatus | None
    reason: str
    budget_microusd: int
    held_microusd: int
    settled_microusd: int
    attempts: int
    total_tasks: int
    counts: dict[str, int] = Field(description="Its tasks by status; UNPLANNED: not made yet.")
    bands: tuple[BandAt, ...]
    tasks: tuple[TaskAt, ...] = Field(description="Each task, where there are not more than 200.")
    too_long: bool = Field(
        False, description="Its history is too long to be shown at any moment: it is shown as it is now."
    )

    @property
    def picture(self) -> Markup:
        """Its graph."""
        if self.tasks:
            return draw(
                [self._task(one) for one in self.tasks],
                label=f"Tasks of mission {self.mission_id}, and what each takes in",
            )
        return draw(
            [self._band(one) for one in self.bands],
            label=f"Stages of mission {self.mission_id}, with their tasks by status",
        )

    def _task(self, one: TaskAt) -> Node:
        name = one.task_id.partition(".")[2]
        word = WORDS[one.status]
        return Node(
            name,
            word,
            f"task {name}: {word}",
            task_href(self.tenant, one.task_id),
            one.depth,
            one.status,
            needs=one.needs,
        )

    def _band(self, one: BandAt) -> Node:
        told = ", ".join(f"{one.counts[status]:,} {WORDS[status]}" for status in WORDS if one.counts[status])
        layers = f"{one.layers[0]}-{one.layers[1] - 1}"
        return Node(
            one.title,
            f"{plural(one.tasks, 'task')} · {one.agent}",
            f"{one.title}: {told}",
            f"{mission_href(self.tenant, self.mission_id, layers=layers)}#panel-mission-tasks",
            one.depth,
            counts=one.counts,
            needs=one.needs,
        )


def scene(
    film: Film, *, tenant: str, at: int | None, whole: bool, over: bool, total_tasks: int, budget: int
) -> ScenePanel:
    """A mission at a moment.

    Args:
        at: behind so many of its events; None: the newest. More than there are is the newest, too.
        whole: the film is read to its end.
        over: nothing will follow.
        budget: the mission's, µ$, where its events do not say.
    """
    live = at is None or at > len(film)
    index = len(film) if at is None else min(at, len(film))
    aside, counts = film.aside(index), film.counts(index)
    number = film.subject(index)
    spent_us = film.instant_us(index) - film.begin_us
    bands = _bands(film.roster, counts)
    return ScenePanel(
        tenant=tenant,
        mission_id=film.mission_id,
        still=not live or (over and whole),
        live=live,
        reading=not whole,
        index=index,
        events=len(film),
        epoch=aside.epoch,
        seq=aside.seq,
        at=aside.at and instant(film.instant_us(index)),
        kind=aside.kind,
        task_id="" if number is None else f"{film.mission_id}.{film.roster.name(number)}",
        elapsed_s=spent_us / 1e6,
        share=spent_us / max(1, film.end_us - film.begin_us),
        status=aside.mission.status,
        reason=aside.mission.reason,
        budget_microusd=aside.mission.budget_microusd or budget,
        held_microusd=aside.held_microusd,
        settled_microusd=aside.settled_microusd,
        attempts=aside.attempts,
        total_tasks=total_tasks,
        counts=named(counts),
        bands=bands,
        tasks=_tasks(film, index) if film.roster.size <= MOST_NODES else (),
    )


def plain_scene(mission: MissionRecord, *, tenant: str, over: bool) -> ScenePanel:
    """The same of a mission that has no film: as it stands now, its layers together."""
    counts = {**mission.counts, UNPLANNED: max(0, mission.total_tasks - sum(mission.counts.values()))}
    band = BandAt(
        title="all tasks",
        agent=mission.spec.agent,
        depth=0,
        layers=(0, 1),
        tasks=mission.total_tasks,
        counts=counts,
        needs=(),
    )
    return ScenePanel(
        tenant=tenant,
        mission_id=mission.mission_id,
        still=over,
        live=True,
        reading=False,
        index=0,
        events=0,
        epoch=0,
        seq=0,
        at=None,
        kind="",
        task_id="",
        elapsed_s=0.0,
        share=1.0,
        status=mission.status,
        reason=mission.reason,
        budget_microusd=mission.budget_microusd,
        held_microusd=mission.held_microusd,
        settled_microusd=mission.settled_microusd,
        attempts=0,
        total_tasks=mission.total_tasks,
        counts=counts,
        bands=(band,),
        tasks=(),
        too_long=True,
    )


def named(counts: Sequence[Sequence[int]]) -> dict[str, int]:
    """Tasks by status, of several layers; UNPLANNED are those not made yet."""
    return {name: sum(some[code] for some in counts) for code, name in enumerate(NAMES)}


def bands_of(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Layers that are drawn together: from one to before another. One each, where there are not many."""
    together = -(-len(layers) // MOST_BANDS)
    return [(start, min(start + together, len(layers))) for start in range(0, len(layers), together)]


def _bands(roster: Roster, counts: Sequence[Sequence[int]]) -> tuple[BandAt, ...]:
    spans = bands_of(roster.layers)
    band = {layer: place for place, span in enumerate(spans) for layer in range(*span)}
    needs: Mapping[int, set[int]] = {place: set() for place in range(len(spans))}
    for start, end, _ in roster.links:
        if band[start] != band[end]:
            needs[band[end]].add(band[start])
    alone = len(spans) == len(roster.layers)
    return tuple(
        BandAt(
            title=roster.layers[first].title if alone else f"layers {first + 1} to {end}",
            agent=_agents(roster.layers[first:end]),
            depth=roster.layers[first].depth if alone else place,
            layers=(first, end),
            tasks=sum(layer.size for layer in roster.layers[first:end]),
            counts=named(counts[first:end]),
            needs=tuple(sorted(needs[place])),
        )
        for place, (first, end) in enumerate(spans)
    )


def _agents(layers: Sequence[Layer]) -> str:
    agents = list(dict.fromkeys(layer.agent for layer in layers))
    return agents[0] if len(agents) == 1 else f"{len(agents)} agents"


def _tasks(film: Film, index: int) -> tuple[TaskAt, ...]:
    roster = film.roster
    return tuple(
        TaskAt(
            task_id=f"{film.mission_id}.{roster.name(number)}",
            status=NAMES[code],
            depth=roster.layers[roster.layer_of(number)].depth,
            needs=tuple(roster.needs(number)),
        )
        for number, code in enumerate(film.statuses(index))
    )
