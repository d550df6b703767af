"""Drives missions of many tasks through the store, hundreds in a call, as a fleet would leave them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from chimera.core.lease import Claim, Review
from chimera.core.mission import MissionSpec
from chimera.core.plan import next_window
from chimera.runtime.base import Base, TenantStores
from chimera.store.ledger import Reservation, Settlement
from chimera.store.tasks import Ended, HandedIn
from tests.store import drive

BATCH = 400
WINDOW = 2_000


async def make(base: Base, tenant: str, mission: MissionSpec, mission_id: str = "m1") -> TenantStores:
    """Submit, and plan by windows until all of it stands."""
    await drive.submit(base, tenant, mission, mission_id)
    stores, cursor, inputs = base.of(tenant), 0, len(mission.inputs)
    done = False
    while not done:
        items = mission.inputs[cursor : cursor + WINDOW]
        window = next_window(mission, items, cursor=cursor, inputs=inputs, width=20)
        assert await stores.missions.plan(mission_id, window, cursor=cursor, term=drive.TERM, by="test")
        cursor, done = window.cursor, window.done
    return stores


async def turn(
    stores: TenantStores, *, most: int = BATCH, error_every: int = 0, reject_every: int = 0
) -> int:
    """Claim some tasks, pay a call for each, hand in, judge; every so many err or are rejected. How many."""
    claims = await drive.claim(stores, most, lease_s=600)
    if not claims:
        return 0
    await _pay(stores, claims)
    erring = [one for at, one in enumerate(claims, 1) if error_every and at % error_every == 0]
    fine = [one for one in claims if one not in erring]
    ended = [Ended(one.task_id, one.token, "error", "the agent raised <b>boom</b>") for one in erring]
    if ended:
        await stores.tasks.end("w1", ended)
    handed = [
        HandedIn(one.task_id, one.token, one.state_version, json.dumps({"headline": f"of {one.task_id}"}))
        for one in fine
    ]
    await stores.tasks.submit("w1", handed, max_stale=5)
    while reviews := await drive.review(stores, most):
        await _judge(stores, reviews, reject_every)
    return len(claims)


async def run(stores: TenantStores, mission_id: str = "m1", **how: int) -> int:
    """All of it, to its end. Returns how many attempts it took."""
    attempts = 0
    while True:
        if not (some := await turn(stores, **how)):
            await drive.end(stores, mission_id)
            if not (some := await turn(stores, **how)):
                return attempts
        attempts += some


async def _pay(stores: TenantStores, claims: Sequence[Claim]) -> None:
    holds = [
        Reservation(f"{one.task_id}-{one.token}", one.task_id, one.token, 100, 600, "echo", "m")
        for one in claims
    ]
    assert not any(await stores.ledger.reserve(holds, term=drive.TERM, by="g"))
    told = [Settlement(one.hold_id, 40 + at % 7, "") for at, one in enumerate(holds)]
    await stores.ledger.settle(told, term=drive.TERM, by="g", **drive.KEEP)


async def _judge(stores: TenantStores, reviews: Sequence[Review], reject_every: int) -> None:
    verdicts = [
        (
            one,
            drive.verdict("reject", 0.2, "name the <place>")
            if reject_every and at % reject_every == 0
            else drive.verdict("accept", 0.97),
        )
        for at, one in enumerate(reviews, 1)
    ]
    await stores.reviews.commit("j1", verdicts, max_stale=5)
