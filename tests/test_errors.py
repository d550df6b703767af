"""Errors cross process borders and tell the next step."""

from __future__ import annotations

import pickle

import pytest

from chimera import errors
from chimera.errors import ChimeraError, RefusalKind
from chimera.judging.policy import JudgeFailed

SAMPLES: dict[type[ChimeraError], tuple[object, ...]] = {
    errors.LeaseLost: ("m1.0", 7, "w2", 1234, "PENDING"),
    errors.InvalidRequest: ("the mission is wrong", ("line 3, goal: missing",)),
    errors.RateLimited: ("too many requests", 2.0),
    errors.BudgetExceeded: (RefusalKind.CONTENDED, "mission", 10, 5, 5, 3, 0.0),
    errors.QueueFull: ("the store is full", 5.0),
    errors.PayloadTooLarge: ("inputs[3]", 100, 10, "CHIMERA_MAX_INPUT_BYTES"),
    errors.HubBusy: ("too many calls", 1.0),
    errors.AgentCrashed: ("echo", "ValueError: no"),
    errors.AnswerUnusable: ("gpt", "cut off", "{"),
    JudgeFailed: ("schema", "out of time"),
}


def every_error(root: type[ChimeraError] = ChimeraError) -> set[type[ChimeraError]]:
    """All of them; those that belong to one room are told by their module."""
    found = {root}
    for child in root.__subclasses__():
        found |= every_error(child)
    return {error for error in found if error.__module__ in {"chimera.errors", "chimera.judging.policy"}}


@pytest.mark.parametrize("error", sorted(every_error(), key=str))
def test_an_error_survives_pickle(error: type[ChimeraError]) -> None:
    original = error(*SAMPLES.get(error, ("what is wrong: what to do",)))
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is error
    assert str(copy) == str(original)
    assert vars(copy) == vars(original)


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    for error in every_error():
        assert error.__name__ in (errors.__doc__ or "") or error is ChimeraError


def test_a_lost_lease_tells_who_holds_it_since_when_and_what_to_change() -> None:
    text = str(errors.LeaseLost("m1.0", 7, "w2", 1_795_000_000_123, "PENDING"))
    for part in ("m1.0", "held by w2 since 2026-11-18T", ".123+00:00", "CHIMERA_LEASE_S", "task_timeout_s"):
        assert part in text


def test_a_lease_that_nobody_holds_says_so_and_what_became_of_the_task() -> None:
    assert "held by nobody, status REVIEW" in str(errors.LeaseLost("m1.0", 7, "", 0, "REVIEW"))
    assert "no longer wanted" in str(errors.LeaseLost("m1.0", 7, "", 0, "CANCELLED"))


def test_a_refused_spend_tells_the_figures_and_what_to_do() -> None:
    text = str(errors.BudgetExceeded(RefusalKind.EXHAUSTED, "mission", 1_000_000, 900_000, 0, 200_000))
    for part in ("mission", "$0.200000 asked", "$0.100000 left of $1.000000", "raise the limit"):
        assert part in text
