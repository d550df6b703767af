"""What a task that waits is told to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chimera.core.task import Priority, TaskStatus
from chimera.core.waiting import Cause, Line, Refused, Standing, why

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


READY = replace(
    WAITING,
    status=TaskStatus.READY,
    refused=None,
    index=0,
    lines=[Line("m1", Priority.MEDIUM, 1, 1)],
    fleet=2,
    places=2,
)


@pytest.mark.parametrize(
    ("spoke", "workers", "cause", "by", "said"),
    [
        (None, 0, Cause.CAPACITY, "places", "all 2 worker places of the fleet are taken"),
        (True, 0, Cause.CAPACITY, "starting", "no worker of this tenant is up yet on its spoke's cluster"),
        (True, 1, Cause.CAPACITY, "turn", "the tenant's 1 workers have"),
        (
            False,
            0,
            Cause.SPOKE,
            "places",
            "its spoke is away: the hub leaves the workers of acme to it, and no worker",
        ),
        (False, 1, Cause.SPOKE, "turn", "nobody starts more than the 1 that go on"),
    ],
)
def test_a_tenant_whose_spoke_keeps_its_workers_waits_for_that_and_for_no_place_of_the_hub(
    spoke: bool | None, workers: int, cause: Cause, by: str, said: str
) -> None:
    found = why(replace(READY, spoke=spoke, workers=workers))
    assert (found.cause, said in found.detail, found.position) == (cause, True, 1)
    assert found.figures["by"] == by or cause is Cause.SPOKE
    assert found.figures.get("spoke") == {None: None, True: "leads", False: "away"}[spoke]
    full = why(replace(READY, spoke=spoke, workers=workers, leases=5, max_agents=5))
    assert (full.cause, full.figures["by"]) == (Cause.CAPACITY, "quota"), "that is nearer"
