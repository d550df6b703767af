"""What a policy is: from a submission to an opinion, or an error that is no opinion.

An opinion is about the result. An error inside a policy (a model that is down, a schema that
takes too many steps) says nothing about the result, so it raises `JudgeFailed`: the caller tries
again, then asks a human. It never counts as a rejection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field

from chimera.core.action import Action
from chimera.core.verdict import Opinion
from chimera.errors import BackendError

TIME_LIMIT_S = 5.0
"""For each policy that calls no model, from when a thread takes it up."""


class JudgeFailed(BackendError):
    """A policy could not judge. Try again; then ask a human. Never a rejection.

    Args:
        policy: the policy that failed.
        cause: what happened, one sentence.
    """

    def __init__(self, policy: str, cause: str) -> None:
        super().__init__(policy, cause)
        self.policy, self.cause = policy, cause

    def __str__(self) -> str:
        return (
            f"the {self.policy} judge could not judge: {self.cause}; it is tried again, then a human is asked"
        )


class Submission(BaseModel):
    """One attempt's result, with what it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    goal: str = Field(description="The mission's goal.")
    data: dict[str, Any] = Field(default_factory=dict, description="The mission's context.")
    input: Any = Field(None, description="The task's own input, JSON.")
    inputs: dict[str, Any] = Field(default_factory=dict, description="Results of the tasks it depends on.")
    result: Any = Field(None, description="What the agent returned, JSON.")
    actions: tuple[Action, ...] = Field((), description="What is carried out if it is accepted.")
    attempt: int = Field(1, ge=1)


class Policy(Protocol):
    """Judges results against one spec. Pure, CPU-bound and bounded; runs in a thread."""

    def judge(self, submission: Submission) -> Opinion:
        """Raises `JudgeFailed` when it cannot judge."""


def combine(opinions: Iterable[Opinion]) -> tuple[float, str]:
    """The least confidence, and the feedback of all that are not content.

    The minimum rules: policies are conditions that must all hold, so one clear "no" must not be
    outvoted by others that looked at something else (a fluent answer with the wrong schema), as it
    would be in a mean; and adding a policy can then only make a judge stricter.

    Raises:
        ValueError: no opinion at all, which is no ground to accept.
    """
    heard = tuple(opinions)
    if not heard:
        raise ValueError("no opinion to combine: a result is never accepted unjudged")
    feedback = dict.fromkeys(opinion.feedback for opinion in heard if opinion.feedback)
    return min(opinion.confidence for opinion in heard), "\n".join(feedback)


def text_of(value: Any) -> str:
    """A value as text: a string as it is, None as nothing, all else as compact JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


_MISSING = object()


def pick(value: Any, path: str | None) -> tuple[bool, Any]:
    """The field at a dotted path (``items.0.title``): whether it is there, and its value."""
    if path is None:
        return True, value
    if isinstance(value, Mapping) and path in value:  # a key may itself hold a dot
        return True, value[path]
    here = value
    for step in path.split("."):
        if isinstance(here, Mapping):
            here = here.get(step, _MISSING)
        elif isinstance(here, list | tuple) and step.isdecimal() and int(step) < len(here):
            here = here[int(step)]
        else:
            return False, None
        if here is _MISSING:
            return False, None
    return True, here
