"""The table of exit codes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from chimera import errors
from chimera.cli.exits import CODES, Exit, of_error, of_mission
from chimera.core.views import MissionView
from chimera.errors import ChimeraError, RefusalKind


def mission(status: str, reason: str = "", failed: int = 0) -> MissionView:
    return cast(MissionView, SimpleNamespace(status=status, reason=reason, failed=failed))


@pytest.mark.parametrize(
    ("ended", "strict", "code"),
    [
        (mission("COMPLETED"), False, 0),
        (mission("COMPLETED", failed=2), False, 0),
        (mission("COMPLETED", failed=2), True, 1),
        (mission("COMPLETED"), True, 0),
        (mission("FAILED", "min_accepted"), False, 1),
        (mission("CANCELLED", "by its owner"), False, 1),
        (mission("FAILED", "budget_exceeded"), False, 3),
        (mission("WAITING_REVIEW"), False, 5),
    ],
)
def test_how_a_mission_ends_decides_the_code(ended: Any, strict: bool, code: int) -> None:
    assert of_mission(ended, strict=strict) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), Exit.USAGE),
        (errors.InvalidRequest("x"), Exit.USAGE),
        (errors.NotFound("x"), Exit.USAGE),
        (errors.Unauthorized("x"), Exit.REFUSED),
        (errors.QueueFull("x"), Exit.REFUSED),
        (errors.BudgetExceeded(RefusalKind.EXHAUSTED, "mission", 1, 1, 0, 1), Exit.REFUSED),
        (errors.FleetUnavailable("x"), Exit.UNREACHABLE),
        (errors.StoreUnavailable("x"), Exit.UNREACHABLE),
        (errors.AgentCrashed("a", "x"), Exit.FAILED),
        (ZeroDivisionError(), Exit.BUG),
    ],
)
def test_an_error_has_a_code(error: Exception, code: Exit) -> None:
    assert of_error(error) is code


def test_every_error_of_ours_has_a_code() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ChimeraError)
    ]
    assert all(any(base in CODES for base in kind.__mro__) for kind in kinds)
