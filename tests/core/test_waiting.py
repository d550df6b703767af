"""What a task that waits is told to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chimera.core.task import Priority, TaskStatus
from chimera.core.waiting import Refused, Standing, why

REFUSED = Refused("window", "fleet/day", 1_000, 900, 0, 500, 90_000_000, 5_000_000)
WAITING = Standing(
    "m1.0",
    "m1",
    "RUNNING",
    Priority.MEDIUM,
    now_us=6_000_000,
    status=TaskStatus.PENDING,
    refused=REFUSED,
    tenant="acme",
)


@pytest.mark.parametrize(
    ("kind", "begins"), [("window", "wait for its reset, or"), ("exhausted", "it can never fit:")]
)
def test_a_limit_of_the_fleet_is_the_operators_to_raise(kind: str, begins: str) -> None:
    found = why(replace(WAITING, refused=replace(REFUSED, kind=kind)))
    assert found.next_step == (
        f"{begins} let the operator raise it "
        "(`chimera fleet limits day=USD --reason WHY`, or CHIMERA_FLEET_LIMITS at the next start)"
    )
