"""A fleet that is busy, in a Redis: many tenants with missions in every state of work, made by the scripts
themselves. No worker runs: heartbeats are beaten once and last for an hour."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from decimal import Decimal

from chimera.core.lease import Claim
from chimera.core.mission import MissionSpec
from chimera.core.plan import next_window, total_tasks
from chimera.core.task import Priority
from chimera.core.verdict import Decision, Verdict
from chimera.runtime.base import Base
from chimera.store.connection import connect_sync
from chimera.store.scripts import SyncScripts
from chimera.store.tasks import Ended, HandedIn, Heartbeat

HOUR_S = 3_600
SLOTS = 16
TERM = 1_000_000
"""Above any that an election gives out."""
TIMEOUT_S = 7_200


async def stage(base: Base, tenants: Sequence[str], *, agents: int) -> None:
    """Make the tenants, each with so many agents under way, some work in line and some done."""
    heart = connect_sync(base.settings)
    try:
        for number, tenant in enumerate(tenants):
            await base.tenants.add(tenant)
            await _tenant(base, SyncScripts(heart), tenant, number, agents)
    finally:
        heart.close()


async def _tenant(base: Base, scripts: SyncScripts, tenant: str, number: int, agents: int) -> None:
    for priority, count in (
        (Priority.HIGH, 10 + number % 7),
        (Priority.MEDIUM, agents),
        (Priority.LOW, 10 + 3 * (number % 11)),
    ):
        for first in range(0, count, 100):
            await submit(base, tenant, priority, min(100, count - first))
    stores = base.of(tenant)
    left = agents
    for index in range(-(-agents // SLOTS)):
        worker, most = f"{tenant}-{index}", min(SLOTS, left)
        claims = await stores.tasks.claim(
            worker, uuid.uuid4().hex, lease_s=HOUR_S, general=most, high=most, slots=SLOTS
        )
        left -= len(claims)
        await asyncio.to_thread(
            Heartbeat(scripts, tenant, worker, pid=1).renew,
            [(one.task_id, one.token) for one in claims],
            lease_s=HOUR_S,
            slots=SLOTS,
            busy=len(claims),
        )
        if index == 0:
            await _done(base, tenant, worker, claims[:4])
    await base.of(tenant).tasks.scaled(
        -(-agents // SLOTS) + (number % 13 == 0),
        why={"backlog": agents, "running": 0, "scarce": False},
        term=TERM,
        by="bench",
    )
    if number % 17 == 0:
        await stores.tasks.drain(f"{tenant}-0")


async def _done(base: Base, tenant: str, worker: str, claims: Sequence[Claim]) -> None:
    """Some results: one accepted, one with a human, one before the judge; one attempt ends with an error."""
    stores = base.of(tenant)
    first, second, third, fourth = claims
    await stores.tasks.submit(
        worker,
        [HandedIn(one.task_id, one.token, 1, '{"said": "so"}') for one in (first, second, third)],
        max_stale=5,
    )
    await stores.tasks.end(worker, [Ended(fourth.task_id, fourth.token, "error", "no answer", 60)])
    reviews = await stores.reviews.claim("judge", uuid.uuid4().hex, lease_s=HOUR_S, most=2)
    decisions = (Decision.ACCEPT, Decision.ESCALATE)
    await stores.reviews.commit(
        "judge",
        [
            (
                review,
                Verdict(
                    decision=decision, confidence=0.95 if decision is Decision.ACCEPT else 0.8, judge="judge"
                ),
            )
            for review, decision in zip(reviews, decisions, strict=True)
        ],
        max_stale=5,
    )


async def submit(base: Base, tenant: str, priority: Priority, count: int) -> str:
    """A small mission; its id."""
    spec = MissionSpec(
        goal="Say it again.",
        agent="echo",
        inputs=list(range(count)),
        budget_usd=Decimal(1),
        priority=priority,
    )
    window = next_window(spec, spec.inputs, cursor=0, inputs=count, width=20)
    receipt = await base.of(tenant).missions.submit(
        uuid.uuid4().hex[:12],
        spec,
        inputs=count,
        total_tasks=total_tasks(spec, count, 20),
        timeout_s=TIMEOUT_S,
        max_attempts=3,
        by="bench",
        window=window,
    )
    return receipt.mission_id
