"""The course of a mission: when each task was ready, at work, in review; of many, how many stood where."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup
from pydantic import Field

from chimera.core.task import TaskStatus
from chimera.core.views import View
from chimera.dashboard.drawing import density, lanes
from chimera.dashboard.drawing.marks import WORDS
from chimera.dashboard.film import Film, instant
from chimera.dashboard.links import task_href
from chimera.dashboard.scene import MOST_NODES, NAMES, bands_of
from chimera.dashboard.words import length
from chimera.store.missionrecord import MissionRecord

LANES = 40
"""Lanes on one page."""
SAMPLES = 121
"""Instants at which many tasks are counted."""
_BUSY = (TaskStatus.PENDING, TaskStatus.REVIEW)


class StayView(View):
    """A time that a task stood somewhere."""

    status: TaskStatus
    begin_s: float = Field(description="Since the mission was submitted.")
    end_s: float | None = Field(description="Null: it still stands there.")
    attempt: int


class LaneView(View):
    """One task's lane."""

    task_id: str
    href: str
    stays: tuple[StayView, ...]
    seconds: float = Field(description="The length of the whole axis.")

    @property
    def name(self) -> str:
        """How its mission calls it."""
        return self.task_id.partition(".")[2]

    def picture(self, share: float | None) -> Markup:
        """Its lane, with the playhead at a part of it."""
        whole = max(self.seconds, 1e-6)
        stays = [
            lanes.Stay(
                stay.status,
                stay.begin_s / whole,
                (self.seconds if stay.end_s is None else stay.end_s) / whole,
                (self.seconds if stay.end_s is None else stay.end_s) - stay.begin_s,
                f", attempt {stay.attempt}" if stay.attempt and stay.status == "PENDING" else "",
            )
            for stay in self.stays
        ]
        last = self.stays[-1] if self.stays else None
        said = (
            f"{WORDS[last.status]} since {length(last.begin_s)}, attempt {last.attempt}"
            if last
            else "not planned yet"
        )
        return lanes.lane(stays, playhead=share, label=f"task {self.name}: {said}")


class BandCourse(View):
    """Layers over time."""

    title: str
    tasks: int
    samples: tuple[dict[str, int], ...] = Field(
        description="Tasks by status at instants evenly apart, from the submit to the last event."
    )
    busiest: int = Field(description="The most tasks at work or in review at one of these instants.")

    def areas(self, share: float | None) -> Markup:
        """Where its tasks stood."""
        last = self.samples[-1]
        told = ", ".join(f"{last[name]:,} {word}" for name, word in WORDS.items() if last.get(name))
        return density.areas(
            self.samples, self.tasks, playhead=share, label=f"{self.title} over time; in the end {told}"
        )

    def busy(self, share: float | None) -> Markup:
        """How many were at work."""
        counts = [sum(sample.get(status, 0) for status in _BUSY) for sample in self.samples]
        return density.busy(
            counts, playhead=share, label=f"{self.title}: at work or in review, {self.busiest:,} at most"
        )


class CoursePanel(View):
    """A mission over time."""

    tenant: str
    mission_id: str
    still: bool = Field(description="Nothing will follow.")
    reading: bool
    begin: datetime | None
    end: datetime | None
    seconds: float
    events: int
    bands: tuple[BandCourse, ...] = Field(description="Where there are more than 200 tasks.")
    lanes: tuple[LaneView, ...]
    page: int
    pages: int
    of: int = Field(description="How many tasks have a lane, over all pages.")
    layers: str = Field("", description="Of these layers; empty for all.")
    too_long: bool = Field(False, description="Its history is too long to be shown over time.")

    @property
    def axis(self) -> Markup:
        """The time above them."""
        return lanes.axis(self.seconds)


def course(
    film: Film,
    *,
    tenant: str,
    whole: bool,
    over: bool,
    numbers: Sequence[int],
    page: int,
    of: int,
    layers: str = "",
) -> CoursePanel:
    """A mission's course.

    Args:
        numbers: the tasks whose lanes are shown: those of a page.
        of: how many there are over all pages.
    """
    seconds = (film.end_us - film.begin_us) / 1e6
    return CoursePanel(
        tenant=tenant,
        mission_id=film.mission_id,
        still=over and whole,
        reading=not whole,
        begin=instant(film.begin_us) if len(film) else None,
        end=instant(film.end_us) if len(film) else None,
        seconds=seconds,
        events=len(film),
        bands=_bands(film) if film.roster.size > MOST_NODES and len(film) else (),
        lanes=lanes_of(film, tenant, numbers),
        page=page,
        pages=max(1, -(-of // LANES)),
        of=of,
        layers=layers,
    )


def plain_course(mission: MissionRecord, *, tenant: str) -> CoursePanel:
    """The same of a mission that has no film: nothing of it."""
    return CoursePanel(
        tenant=tenant,
        mission_id=mission.mission_id,
        still=True,
        reading=False,
        begin=None,
        end=None,
        seconds=0.0,
        events=0,
        bands=(),
        lanes=(),
        page=0,
        pages=1,
        of=0,
        too_long=True,
    )


def lanes_of(film: Film, tenant: str, numbers: Sequence[int]) -> tuple[LaneView, ...]:
    """The lanes of some tasks."""
    seconds = (film.end_us - film.begin_us) / 1e6
    found = []
    for number, stretches in film.stretches(numbers).items():
        task_id = f"{film.mission_id}.{film.roster.name(number)}"
        stays = tuple(
            StayView(
                status=one.status,
                begin_s=(one.begin_us - film.begin_us) / 1e6,
                end_s=None if one.end_us is None else (one.end_us - film.begin_us) / 1e6,
                attempt=one.attempt,
            )
            for one in stretches
        )
        found.append(LaneView(task_id=task_id, href=task_href(tenant, task_id), stays=stays, seconds=seconds))
    return tuple(found)


def _bands(film: Film) -> tuple[BandCourse, ...]:
    samples = film.samples(SAMPLES, film.begin_us, film.end_us)
    layers = film.roster.layers
    found = []
    for first, end in bands_of(layers):
        told = [
            {
                name: count
                for code, name in enumerate(NAMES)
                if (count := sum(layer[code] for layer in sample[first:end]))
            }
            for sample in samples
        ]
        alone = end - first == 1
        found.append(
            BandCourse(
                title=layers[first].title if alone else f"layers {first + 1} to {end}",
                tasks=sum(layer.size for layer in layers[first:end]),
                samples=tuple(told),
                busiest=max(sum(one.get(status, 0) for status in _BUSY) for one in told),
            )
        )
    return tuple(found)
