"""Estimates on the wire: what `POST /v1/missions/estimate` takes and answers."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pydantic import Field, model_validator

from chimera.core.estimate import Estimate, Sizes, sizes_of
from chimera.core.mission import DagPlan, Frozen, MissionBase
from chimera.core.recurrence import Every
from chimera.core.views import View


class InputSizes(Frozen):
    """Many inputs, by their sizes as JSON: an estimate needs no more of them."""

    count: int = Field(ge=1, le=1_000_000_000)
    mean_bytes: int = Field(ge=0, le=8_388_608)
    max_bytes: int = Field(ge=0, le=8_388_608)

    @model_validator(mode="after")
    def _are_sizes(self) -> InputSizes:
        if self.mean_bytes > self.max_bytes:
            raise ValueError("mean_bytes must not be above max_bytes")
        return self


class EstimateRequest(MissionBase):
    """A mission as it would be submitted, with its inputs or their sizes; and how often it recurs."""

    inputs: tuple[Any, ...] = Field((), description="As `POST /v1/missions` takes them.")
    sizes: InputSizes | None = Field(None, description="In place of `inputs`.")
    every: Every | None = Field(None, description="How often it recurs: a year's cost is told then.")

    @model_validator(mode="after")
    def _inputs_fit(self) -> EstimateRequest:
        given = bool(self.inputs) + (self.sizes is not None)
        if isinstance(self.plan, DagPlan) and given:
            raise ValueError("a dag plan has no inputs: each node names its own")
        if not isinstance(self.plan, DagPlan) and given != 1:
            raise ValueError("give either inputs or sizes")
        return self

    @property
    def measured(self) -> Sizes:
        """The sizes of its inputs."""
        if self.sizes is not None:
            return Sizes(self.sizes.count, self.sizes.mean_bytes, self.sizes.max_bytes)
        return sizes_of([len(json.dumps(one, ensure_ascii=False).encode()) for one in self.inputs])


class PartView(View):
    """What one kind of the mission's tasks costs; its judging is a part of its own (agent `judge`)."""

    stage: str
    agent: str
    model: str
    tasks: int
    low_microusd: int
    likely_microusd: int
    worst_microusd: int | None = Field(description="Null: nothing but the budget bounds it.")
    call_microusd: int = Field(description="What a call of usual size reserves.")
    rests_on: str = Field(description="History or assumptions, in words.")


class FitView(View):
    """Whether it fits the budget, or a limit in force."""

    level: str
    limit_microusd: int
    left_microusd: int
    likely_microusd: int = Field(description="What the mission would take of this level.")
    worst_microusd: int
    verdict: str = Field(
        description="fits; likely: its worst case does not; no: not even the likely cost; never: a call of "
        "usual size reserves more than the whole limit."
    )
    recurring: str = Field("", description="The same of all runs within one of its windows, if it recurs.")


class EstimateView(View):
    """What a mission will cost, before anything runs. Nothing of it was stored."""

    tasks: int
    parts: tuple[PartView, ...]
    budget_microusd: int
    low_microusd: int = Field(description="Within the budget, as the next two.")
    likely_microusd: int
    worst_microusd: int
    plan_worst_microusd: int | None = Field(
        description="Every attempt, every try, each at its worst, were there no budget; null: not bounded."
    )
    wanted_microusd: int = Field(description="The likely cost, were there no budget.")
    would_fit: bool = Field(description="The likely cost fits the budget and every limit in force.")
    fits: tuple[FitView, ...]
    every: Every | None = None
    runs_a_year: float = 0
    year_low_microusd: int | None = None
    year_likely_microusd: int | None = None
    year_worst_microusd: int | None = None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, found: Estimate) -> EstimateView:
        """An estimate."""
        runs = found.runs_a_year

        def a_year(amount: int) -> int | None:
            return round(amount * runs) if found.every else None

        return cls(
            **asdict(found),
            would_fit=all(one.verdict in {"fits", "likely"} for one in found.fits),
            year_low_microusd=a_year(found.low_microusd),
            year_likely_microusd=a_year(found.likely_microusd),
            year_worst_microusd=a_year(found.worst_microusd),
        )
