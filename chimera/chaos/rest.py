"""An idle fleet reaches zero and wakes: what the drill does for it, and the check of what it left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chimera.chaos.history import CLOCKS_S, History, TenantEnd
from chimera.chaos.journal import Journal
from chimera.chaos.load import BUDGET_USD, JUDGE, surely
from chimera.client import Client
from chimera.errors import StoreError
from chimera.settings import Settings
from chimera.store.connection import connect
from chimera.store.tasks import TaskStore

ZERO_S = 30.0
"""Beyond CHIMERA_IDLE_S: when nothing was to do for that long, the last worker is gone within this."""
WAKE_S = 30.0
"""From no worker to an accepted result, on a machine that a drill has just worn out."""
LOOK_S = 0.2


async def to_zero_and_back(
    settings: Settings, clients: dict[str, Client], rests: Journal, acks: Journal, told: Callable[[str], None]
) -> None:
    """Wait, for each tenant, until it has no worker; then submit one small mission of each.

    Args:
        clients: of each tenant.
        rests: keeps what was seen of workers: ``tenant, event`` (idle | zero), and ``idle_s``.
        acks: the clients' journal.
    """
    for tenant in clients:
        rests.write(tenant=tenant, event="idle", idle_s=settings.idle_s)
    until = time.monotonic() + settings.idle_s + ZERO_S
    await asyncio.gather(*(_zero(settings, tenant, rests, until) for tenant in clients))
    told("no worker is left: waking")
    await asyncio.gather(*(_wake(client, tenant, acks) for tenant, client in clients.items()))


async def _zero(settings: Settings, tenant: str, rests: Journal, until: float) -> None:
    redis = connect(settings)
    try:
        while time.monotonic() < until:
            try:
                if not await TaskStore(redis, tenant).workers():
                    rests.write(tenant=tenant, event="zero")
                    return
            except StoreError:
                pass  # it is looked at again; what is not seen is not written
            await asyncio.sleep(LOOK_S)  # another process' doing
    finally:
        await redis.aclose()


async def _wake(client: Client, tenant: str, acks: Journal) -> None:
    inputs = [{"n": 1, "seconds": 0.0, "pays": False, "fails": False, "hook": ""}]
    spec: dict[str, Any] = {
        "goal": "wake",
        "agent": "chaos-drill",
        "inputs": inputs,
        "judge": JUDGE,
        "budget_usd": BUDGET_USD,
    }
    made = await surely(lambda: client.submit(spec, idempotency_key=f"wake-{tenant}"))
    acks.write(tenant=tenant, mission_id=made.mission_id, tasks=made.total_tasks, wakes=True)
    with suppress(TimeoutError):  # the checker says so
        async with asyncio.timeout(2 * WAKE_S):
            await surely(lambda: client.wait(made.mission_id))


def idle_reaches_zero_and_wakes(history: History) -> tuple[int, list[str]]:
    """After `idle_s` without work no worker is left, by the recorder as by who looked; work is done again."""
    wrong, checked = [], 0
    for name, tenant in history.tenants.items():
        told = {rest["event"]: rest for rest in history.rests if rest["tenant"] == name}
        if "idle" not in told:
            continue
        checked += 1
        bound = told["idle"]["at"] + told["idle"]["idle_s"] + ZERO_S
        if "zero" not in told:
            wrong.append(f"{name}: workers were left {ZERO_S:g} s after CHIMERA_IDLE_S without work")
            continue
        if told["zero"]["at"] > bound + CLOCKS_S:
            wrong.append(f"{name}: it took until {told['zero']['at'] - bound:.1f} s after the bound")
        living = sorted(_living(tenant, told["zero"]["at"]))
        wrong += [f"{name}: {worker} had no end in the recorder when none was left" for worker in living]
        woken = [
            ack["mission_id"] for ack in history.acknowledged if ack["tenant"] == name and "wakes" in ack
        ]
        if not woken:
            wrong.append(f"{name}: nothing woke it")
        wrong += [said for mission_id in woken if (said := _slow_to_wake(tenant, mission_id))]
    return checked, wrong


def _living(tenant: TenantEnd, at: float) -> set[str]:
    living: set[str] = set()
    for event in tenant.events:
        if event.at.timestamp() > at:
            continue
        if event.kind == "worker.started":
            living.add(event.details["worker"])
        elif event.kind == "worker.ended":
            living.discard(event.details["worker"])
    return living


def _slow_to_wake(tenant: TenantEnd, mission_id: str) -> str:
    """What is wrong with the mission that was to wake the tenant's swarm; "" when nothing is."""
    at = {
        event.kind: event.at.timestamp()
        for event in reversed(tenant.events)  # the first of each kind
        if event.mission_id == mission_id
    }
    if "task.accepted" not in at or "mission.submitted" not in at:
        return f"{mission_id} was to wake it and was not accepted"
    took_s = at["task.accepted"] - at["mission.submitted"]
    return f"{mission_id} woke it after {took_s:.1f} s, not {WAKE_S:g}" if took_s > WAKE_S else ""
