"""Drives a mission through the store by hand: short steps for tests to build on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pydantic_core import to_json

from chimera.core import money
from chimera.core.action import Action, HttpAction, Outcome
from chimera.core.lease import Claim, Review
from chimera.core.mission import MissionSpec
from chimera.core.plan import Window, next_window, total_tasks
from chimera.core.verdict import Decision, Verdict
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.retention import windows
from chimera.store.actions import Errand, Report
from chimera.store.missions import Receipt
from chimera.store.pruning import Mark
from chimera.store.scripts import Refusal
from chimera.store.tasks import HandedIn
from chimera.store.uploads import upload

DAY = money.Window.DAY
LEASE_S = 0.6
"""As the fixture's settings have it."""
KEEP = {"keep_s": 60, "keep_bytes": 1_000}
"""What a governor lets a settlement keep."""
TERM = 1_000_000
"""Above any term an election in the same test server gives out."""


def spec(**fields: Any) -> MissionSpec:
    """A small mission; fields override."""
    return MissionSpec(
        **{"goal": "try", "agent": "echo", "inputs": [1, 2, 3], "budget_usd": Decimal(1), **fields}
    )


async def submit(
    base: Base,
    tenant: str,
    mission: MissionSpec,
    mission_id: str = "m1",
    *,
    at_once: bool = False,
    **more: Any,
) -> str:
    """Submit; the mission's id. `at_once`: planned in the same step, its inputs nowhere else."""
    return (await acknowledge(base, tenant, mission, mission_id, at_once=at_once, **more)).mission_id


async def acknowledge(
    base: Base, tenant: str, mission: MissionSpec, mission_id: str = "m1", *, at_once: bool, **more: Any
) -> Receipt:
    """Submit; what the store says of it."""
    if not at_once:
        await (await upload(base.blobs, tenant, mission_id, mission.inputs)).acknowledged()
    return await base.of(tenant).missions.submit(
        mission_id,
        mission,
        inputs=len(mission.inputs),
        total_tasks=total_tasks(mission, len(mission.inputs), 20),
        timeout_s=mission.task_timeout_s or 60,
        max_attempts=mission.max_attempts or 3,
        by="test",
        window=whole(mission) if at_once else None,
        **more,
    )


def whole(mission: MissionSpec, width: int = 20) -> Window:
    """All of its tasks."""
    return next_window(mission, mission.inputs, cursor=0, inputs=len(mission.inputs), width=width)


async def plan(
    base: Base, tenant: str, mission: MissionSpec, mission_id: str = "m1", width: int = 20
) -> bool:
    """Plan it whole."""
    window = whole(mission, width)
    return await base.of(tenant).missions.plan(mission_id, window, cursor=0, term=TERM, by="test")


async def begin(base: Base, tenant: str, mission: MissionSpec, mission_id: str = "m1") -> TenantStores:
    """Submit and plan."""
    await submit(base, tenant, mission, mission_id)
    assert await plan(base, tenant, mission, mission_id)
    return base.of(tenant)


_numbers = itertools.count(1)


async def claim(
    stores: TenantStores,
    n: int = 1,
    worker: str = "w1",
    claim_id: str = "",
    lease_s: float = 5,
    slots: int = 16,
) -> list[Claim]:
    """Claim n tasks."""
    return await stores.tasks.claim(
        worker, claim_id or f"c{next(_numbers)}", lease_s=lease_s, general=n, high=n, slots=slots
    )


async def hand_in(
    stores: TenantStores, one: Claim, result: Any = "done", worker: str = "w1", actions: Sequence[Action] = ()
) -> Any:
    """Hand in a result."""
    handed = HandedIn(
        one.task_id,
        one.token,
        one.state_version,
        to_json(result).decode(),
        [action.model_dump_json() for action in actions],
    )
    return (await stores.tasks.submit(worker, [handed], max_stale=5))[0]


async def review(stores: TenantStores, n: int = 10, judge: str = "j1", lease_s: float = 5) -> list[Review]:
    """Take reviews."""
    return await stores.reviews.claim(judge, f"r{next(_numbers)}", lease_s=lease_s, most=n)


def verdict(decision: str = "accept", confidence: float = 1.0, feedback: str = "") -> Verdict:
    """A verdict."""
    return Verdict(decision=Decision(decision), confidence=confidence, feedback=feedback)


async def judge(stores: TenantStores, one: Review, made: Verdict | None = None) -> Refusal | None:
    """Commit a verdict."""
    return (await stores.reviews.commit("j1", [(one, made or verdict())], max_stale=5))[0]


HOOK = HttpAction(url="http://receiver.test/hook", body={"n": 1})
"""An action like any other."""


async def accept_with(
    base: Base, tenant: str, actions: Sequence[Action] = (HOOK,), mission_id: str = "m1"
) -> TenantStores:
    """A mission of one task, its result accepted together with these actions."""
    stores = await begin(base, tenant, spec(inputs=["x"]), mission_id)
    (one,) = await claim(stores)
    assert await hand_in(stores, one, actions=actions) is None
    (held,) = await review(stores)
    assert await judge(stores, held) is None
    return stores


async def errands(
    stores: TenantStores, courier: str = "c1", claim_id: str = "", lease_s: float = 5, grace_s: float = 0
) -> list[Errand]:
    """Take the actions that are due."""
    return await stores.actions.claim(
        courier, claim_id or f"e{next(_numbers)}", lease_s=lease_s, most=10, grace_s=grace_s
    )


async def report(
    stores: TenantStores, one: Errand, outcome: str = "done", courier: str = "c1", delay_s: float = 0
) -> bool:
    """Say what came of one."""
    said = Report(one.action_id, one.token, Outcome(outcome), "200: ok", delay_s)
    return (await stores.actions.report(courier, [said]))[0]


async def kinds(stores: TenantStores, prefix: str = "action.") -> list[str]:
    """What the recorder has, in order."""
    return [e.kind async for _, e in stores.recorder.read() if e.kind.startswith(prefix)]


async def finish(stores: TenantStores, n: int, result: Any = "done") -> None:
    """Claim n tasks, hand them in, accept them."""
    for one in await claim(stores, n):
        assert await hand_in(stores, one, result) is None
    for held in await review(stores, n):
        assert await judge(stores, held) is None


async def over(
    base: Base, tenant: str, mission_id: str = "m1", inputs: int = 3, **fields: Any
) -> TenantStores:
    """A mission that is COMPLETED, with nothing left to do of it."""
    stores = await begin(base, tenant, spec(inputs=list(range(inputs)), **fields), mission_id)
    await finish(stores, inputs)
    await end(stores, mission_id)
    return stores


async def end(stores: TenantStores, mission_id: str = "m1") -> None:
    """What a leader does once all tasks of a mission are final."""
    while await stores.missions.revive(mission_id, term=TERM, by="test"):
        pass
    await stores.missions.pass_failures(term=TERM, by="test")
    await stores.missions.settle(mission_id, term=TERM, by="test")
    while await stores.missions.sweep(mission_id, term=TERM, by="test"):
        pass


async def write(stores: TenantStores, mission_id: str = "m1") -> tuple[Mark, str]:
    """Mark a mission that is over, and write its dossier; the digest."""
    mark = await stores.pruning.mark(mission_id, age_s=0, term=TERM)
    assert mark
    mission = await stores.missions.get(mission_id)
    async with stores.dossiers.writing(replace(mission, archived_at_us=mark.at_us)) as dossier:
        async for filed in windows(stores, mission):
            await dossier.add(filed)
    return mark, dossier.sha256


async def archive(stores: TenantStores, mission_id: str = "m1") -> str:
    """Write a mission's dossier, and prune it; the digest."""
    mark, sha256 = await write(stores, mission_id)
    while await stores.pruning.prune(mission_id, mark, sha256=sha256, term=TERM, by="test", most=2):
        pass
    return sha256
