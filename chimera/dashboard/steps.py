"""What each step of a mission cost, and where its time went: so why it is slow, and what it spends on."""

from __future__ import annotations

from pydantic import Field

from chimera.core.task import TaskStatus
from chimera.core.timeline import ENDS
from chimera.core.views import View
from chimera.dashboard.film import CODES, Film
from chimera.dashboard.film import Step as Taken
from chimera.dashboard.scene import bands_of
from chimera.store.missionrecord import MissionRecord

_LOST = tuple(ENDS)


class Step(View):
    """A layer of the plan, or several of many."""

    title: str
    agent: str
    tasks: int
    accepted: int
    attempts: int
    lost: dict[str, int] = Field(description="Attempts that came to nothing, by kind; without those at zero.")
    calls: int = Field(description="Paid calls that ended.")
    refused: int = Field(description="Reservations that were refused.")
    settled_microusd: int
    judging_microusd: int = Field(description="Of that, what its judges cost.")
    share: float = Field(description="Of all that the mission spent, 0 to 1.")
    mean_s: dict[TaskStatus, float | None] = Field(
        description="How long a task stood in a status at a time; null where none did."
    )

    @property
    def each_microusd(self) -> int | None:
        """What an accepted task of it cost on average; None without one."""
        return round(self.settled_microusd / self.accepted) if self.accepted else None


class StepsPanel(View):
    """A mission's steps."""

    tenant: str
    mission_id: str
    still: bool
    reading: bool
    steps: tuple[Step, ...]
    settled_microusd: int = Field(description="Of all of them; calls of no task are not in it.")
    too_long: bool = Field(False, description="Its history is too long to be added up here.")


def steps(film: Film, *, tenant: str, whole: bool, over: bool) -> StepsPanel:
    """A mission's steps."""
    layers = film.roster.layers
    counts = film.counts(len(film))
    accepted = CODES.index(TaskStatus.ACCEPTED)
    total = sum(one.settled for one in film.steps)
    found = []
    for first, end in bands_of(layers):
        some = film.steps[first:end]
        settled = sum(one.settled for one in some)
        found.append(
            Step(
                title=layers[first].title if end - first == 1 else f"layers {first + 1} to {end}",
                agent=", ".join(list(dict.fromkeys(layer.agent for layer in layers[first:end]))[:3]),
                tasks=sum(layer.size for layer in layers[first:end]),
                accepted=sum(one[accepted] for one in counts[first:end]),
                attempts=sum(one.claims for one in some),
                lost={
                    kind.partition(".")[2]: count
                    for kind in _LOST
                    if (count := sum(one.ends[kind] for one in some))
                },
                calls=sum(one.calls for one in some),
                refused=sum(one.refused for one in some),
                settled_microusd=settled,
                judging_microusd=sum(one.judging for one in some),
                share=settled / total if total else 0.0,
                mean_s={status: _mean(some, CODES.index(status)) for status in _TIMED},
            )
        )
    return StepsPanel(
        tenant=tenant,
        mission_id=film.mission_id,
        still=over and whole,
        reading=not whole,
        steps=tuple(found),
        settled_microusd=total,
    )


def plain_steps(mission: MissionRecord, *, tenant: str) -> StepsPanel:
    """The same of a mission that has no film: nothing but what it spent."""
    return StepsPanel(
        tenant=tenant,
        mission_id=mission.mission_id,
        still=True,
        reading=False,
        steps=(),
        settled_microusd=mission.settled_microusd,
        too_long=True,
    )


_TIMED = (TaskStatus.READY, TaskStatus.PENDING, TaskStatus.REVIEW, TaskStatus.ESCALATED)


def _mean(some: list[Taken], code: int) -> float | None:
    stays = sum(one.stays[code] for one in some)
    return sum(one.stood_us[code] for one in some) / stays / 1e6 if stays else None
