"""A verdict: what a judge makes of one result, and the thresholds that turn confidence into it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

ACCEPT_ABOVE = 0.90
REJECT_BELOW = 0.70
HUMAN = "human:"
"""Before who answered, in the `judge` of a human's verdict."""


class Decision(StrEnum):
    """What happens to a result."""

    ACCEPT = "accept"
    """It is committed."""
    ESCALATE = "escalate"
    """It waits for a human."""
    REJECT = "reject"
    """It is retried with the feedback, or the task fails when its attempts are used up."""


class Opinion(BaseModel):
    """What one policy makes of a result.

    An opinion is always about the result. A policy that could not judge has none: it raises.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(min_length=1, description="The policy that says so, for example `schema`.")
    confidence: float = Field(
        ge=0, le=1, allow_inf_nan=False, description="0: certainly wrong; 1: certainly right."
    )
    feedback: str = Field("", description="What the author should change; empty when content.")
    details: dict[str, Any] = Field(default_factory=dict, description="Figures behind the confidence, JSON.")


class Verdict(BaseModel):
    """The judgement on one attempt's result, as it is committed and shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Decision
    confidence: float = Field(ge=0, le=1, allow_inf_nan=False)
    feedback: str = ""
    opinions: tuple[Opinion, ...] = ()
    topics: tuple[str, ...] = Field((), description="Sensitive topics found: any of them waits for a human.")
    judge: str = Field("", description="Who judged: a judge's name, or `human:<who>`.")
    at_ms: int | None = Field(None, ge=0, description="When, ms since the epoch by the store's clock.")

    @property
    def human(self) -> str:
        """The person who answered; "" of a judge's verdict."""
        return self.judge.removeprefix(HUMAN) if self.judge.startswith(HUMAN) else ""


def decide(
    confidence: float, accept_above: float = ACCEPT_ABOVE, reject_below: float = REJECT_BELOW
) -> Decision:
    """Above `accept_above` accepts, below `reject_below` rejects; both bounds themselves escalate.

    Raises:
        ValueError: the thresholds cross, or a figure is not within 0..1 (NaN included).
    """
    if not 0 <= confidence <= 1:
        raise ValueError(f"a confidence lies within 0..1, not {confidence!r}")
    if not 0 <= reject_below <= accept_above <= 1:
        raise ValueError(f"thresholds must satisfy 0 <= {reject_below!r} <= {accept_above!r} <= 1")
    if confidence > accept_above:
        return Decision.ACCEPT
    if confidence < reject_below:
        return Decision.REJECT
    return Decision.ESCALATE
