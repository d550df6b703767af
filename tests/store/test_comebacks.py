"""Missions that are paused, resumed, revived and redriven: nothing accepted is lost, nothing is stuck."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from chimera.core.mission import MissionStatus
from chimera.errors import BudgetExceeded, InvalidTransition, NotFound
from chimera.runtime.base import Base, TenantStores
from chimera.store.ledger import Reservation
from chimera.store.tasks import Ended
from tests.store import drive


async def counts(stores: TenantStores) -> dict[str, int]:
    return {status: n for status, n in (await stores.missions.get("m1")).counts.items() if n}


async def status(stores: TenantStores) -> MissionStatus:
    await stores.missions.settle("m1", term=drive.TERM, by="hub")
    return (await stores.missions.get("m1")).status


async def fail(stores: TenantStores, n: int = 1) -> list[str]:
    held = await drive.claim(stores, n)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0) for one in held])
    left = 1
    while left:
        left = await stores.missions.pass_failures(term=drive.TERM, by="hub")
    return [one.task_id for one in held]


async def sweep(stores: TenantStores, most: int = 500) -> int:
    return await stores.missions.sweep("m1", term=drive.TERM, by="hub", most=most)


async def revive(stores: TenantStores, most: int = 500) -> None:
    left = 1
    while left:
        left = await stores.missions.revive("m1", term=drive.TERM, by="hub", most=most)


async def test_a_paused_mission_is_not_claimed_and_its_results_wait(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    under_way, judged = await drive.claim(stores, 2)
    assert await drive.hand_in(stores, judged) is None
    (held,) = await drive.review(stores)
    await stores.missions.pause("m1", "op", by="eve", reason="prices")
    assert await drive.claim(stores, 5) == []
    assert await drive.hand_in(stores, under_way) is None, "what was under way is kept"
    assert await drive.review(stores) == []
    assert await drive.judge(stores, held) is None, "a verdict that was paid for counts"
    assert await status(stores) is MissionStatus.PAUSED
    assert await counts(stores) == {"READY": 1, "REVIEW": 1, "ACCEPTED": 1}
    version = (await stores.missions.get("m1")).state.version
    await stores.missions.resume("m1", "op2", by="eve")
    assert (await stores.missions.get("m1")).state.version == version
    for one in await drive.review(stores):
        assert await drive.judge(stores, one) is None
    await drive.finish(stores, 1)
    assert await status(stores) is MissionStatus.COMPLETED


async def test_a_mission_paused_before_it_is_planned_goes_on_from_there(base: Base, tenant: str) -> None:
    mission = drive.spec()
    await drive.submit(base, tenant, mission)
    stores = base.of(tenant)
    await stores.missions.pause("m1", "op", by="eve")
    assert not await drive.plan(base, tenant, mission)
    await stores.missions.resume("m1", "op2", by="eve")
    assert await drive.plan(base, tenant, mission)
    await drive.finish(stores, 3)
    assert await status(stores) is MissionStatus.COMPLETED


async def test_a_pause_does_not_stop_the_deadline(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(deadline_s=3600))
    await stores.missions.pause("m1", "op", by="eve")
    await base.redis.hset(stores.missions.keys.of("mission", "m1"), "deadline", 1)
    with pytest.raises(InvalidTransition, match="deadline"):
        await stores.missions.resume("m1", "op2", by="eve")
    assert await status(stores) is MissionStatus.FAILED
    assert (await stores.missions.get("m1")).reason == "deadline"


async def test_what_is_over_or_running_is_not_paused_or_resumed(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    with pytest.raises(InvalidTransition, match="nothing to resume"):
        await stores.missions.resume("m1", "op", by="eve")
    await stores.missions.cancel("m1", by="eve", reason="")
    with pytest.raises(InvalidTransition, match="is over"):
        await stores.missions.pause("m1", "op", by="eve")
    with pytest.raises(InvalidTransition, match="cancelled"):
        await stores.missions.redrive("m1", ["m1.0"], "op", by="eve")
    for call in (
        stores.missions.pause("m9", "op", by="eve"),
        stores.missions.resume("m9", "op", by="eve"),
        stores.missions.redrive("m9", ["m9.0"], "op", by="eve"),
    ):
        with pytest.raises(NotFound, match="m9"):
            await call


async def broke(base: Base, tenant: str, n: int = 6) -> TenantStores:
    """A mission of n tasks, one accepted, that its budget of $0.001 ended."""
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(n)), budget_usd=Decimal("0.001")))
    await drive.finish(stores, 1)
    (one,) = await drive.claim(stores)
    asked = Reservation("h", one.task_id, one.token, 2_000, 60)
    (refused,) = await stores.ledger.reserve([asked], term=drive.TERM, by="g")
    assert isinstance(refused, BudgetExceeded)
    assert await status(stores) is MissionStatus.FAILED
    return stores


@pytest.mark.parametrize("swept", ["not at all", "in part", "wholly"])
async def test_a_larger_budget_revives_a_mission_wherever_its_sweep_was(
    base: Base, tenant: str, swept: str
) -> None:
    stores = await broke(base, tenant)
    if swept != "not at all":
        left = await sweep(stores, most=3)
        while left and swept == "wholly":
            left = await sweep(stores, most=3)
    for too_little in (None, 1_000):
        with pytest.raises(InvalidTransition, match="larger budget"):
            await stores.missions.resume("m1", "no", by="eve", budget_microusd=too_little)
    await stores.missions.resume("m1", "op", by="eve", budget_microusd=5_000)
    mission = await stores.missions.get("m1")
    assert (mission.status, mission.budget_microusd, mission.wanted_microusd) == ("RUNNING", 5_000, 0)
    assert await status(stores) is MissionStatus.RUNNING, "not over before its tasks came back"
    await revive(stores, most=2)
    assert await status(stores) is MissionStatus.RUNNING
    await stores.tasks.release("w1", "hub")
    await drive.finish(stores, 5)
    assert await counts(stores) == {"ACCEPTED": 6}
    assert await status(stores) is MissionStatus.COMPLETED


async def test_a_redriven_task_gets_fresh_attempts_and_keeps_its_past(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1], max_attempts=2))
    for _ in range(2):
        (one,) = await drive.claim(stores)
        assert await drive.hand_in(stores, one) is None
        (held,) = await drive.review(stores)
        await drive.judge(stores, held, drive.verdict("reject", 0.1, "more"))
    assert await status(stores) is MissionStatus.FAILED
    assert await stores.missions.redrive("m1", ["m1.0", "m2.0", "m1.9"], "op", by="eve") == 1
    await revive(stores)
    assert await status(stores) is MissionStatus.RUNNING
    (one,) = await drive.claim(stores)
    assert (one.attempt, one.feedback) == (3, ("more", "more"))
    assert await drive.hand_in(stores, one) is None
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("reject", 0.1, "again"))
    assert await counts(stores) == {"READY": 1}, "attempts are counted anew"
    await drive.finish(stores, 1)
    assert await status(stores) is MissionStatus.COMPLETED
    assert len((await stores.tasks.get("m1.0")).verdicts) == 4


DAG: dict[str, Any] = {
    "inputs": [],
    "max_attempts": 1,
    "plan": {
        "strategy": "dag",
        "nodes": [
            {"name": "a", "input": 1},
            {"name": "b", "depends_on": ["a"]},
            {"name": "c", "depends_on": ["b"]},
            {"name": "d", "depends_on": ["a"], "accept_partial": True},
        ],
    },
}


async def test_those_cancelled_for_want_of_a_redriven_task_wait_for_it_again(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(**DAG))
    assert await fail(stores) == ["m1.a"]
    assert await counts(stores) == {"FAILED": 1, "CANCELLED": 3}
    assert await status(stores) is MissionStatus.FAILED
    await sweep(stores)
    assert await stores.missions.redrive("m1", ["m1.a"], "op", by="eve") == 1
    await revive(stores)
    assert await counts(stores) == {"READY": 1, "BLOCKED": 3}
    for n in (1, 2, 1):
        await drive.finish(stores, n)
    assert await counts(stores) == {"ACCEPTED": 4}
    assert await status(stores) is MissionStatus.COMPLETED


async def test_a_redrive_before_the_failure_was_passed_on_leaves_the_dependants_waiting(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(**DAG))
    (one,) = await drive.claim(stores)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])
    assert await stores.missions.redrive("m1", ["m1.a"], "op", by="eve") == 1
    await stores.missions.pass_failures(term=drive.TERM, by="hub")
    assert await counts(stores) == {"READY": 1, "BLOCKED": 3}
    for n in (1, 2, 1):
        await drive.finish(stores, n)
    assert await counts(stores) == {"ACCEPTED": 4}


async def test_what_comes_back_before_the_sweep_was_through_stands_in_its_queue_once(
    base: Base, tenant: str
) -> None:
    stores = await broke(base, tenant)
    for one in await drive.claim(stores, 2):
        assert await drive.hand_in(stores, one) is None
    assert await sweep(stores, most=5) == 1, "two results and a task that waited are swept, one task is not"
    await stores.missions.resume("m1", "op", by="eve", budget_microusd=5_000)
    await revive(stores)
    await stores.tasks.release("w1", "hub")
    ready = await base.redis.lrange(stores.tasks.keys.of("ready", "m1"), 0, -1)
    assert sorted(ready) == ["m1.1", "m1.2", "m1.3", "m1.4", "m1.5"]
    for one in await drive.claim(stores, 5):
        assert await drive.hand_in(stores, one) is None
    held = await drive.review(stores)
    assert len({one.task_id for one in held}) == len(held) == 5, "no result is with a judge twice"


async def test_a_paused_mission_whose_results_were_parked_is_swept_of_them(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2, 3]))
    for one in await drive.claim(stores, 3):
        assert await drive.hand_in(stores, one) is None
    await stores.missions.pause("m1", "op", by="eve")
    assert await drive.review(stores, 2) == []
    await stores.missions.cancel("m1", by="eve", reason="enough")
    assert await sweep(stores) == 0
    keys = stores.missions.keys
    assert await base.redis.exists(keys.of("parked", "m1"), keys.review) == 0


async def test_a_mission_paused_while_its_tasks_come_back_is_not_opened_for_claims(
    base: Base, tenant: str
) -> None:
    stores = await broke(base, tenant)
    await sweep(stores)
    await stores.missions.resume("m1", "op", by="eve", budget_microusd=5_000)
    await stores.missions.pause("m1", "op2", by="eve")
    await revive(stores)
    assert (await stores.tasks.load())[:3] == (0, 0, 0), "nothing may be claimed: no worker is wanted"
    await stores.missions.resume("m1", "op3", by="eve")
    assert (await stores.tasks.load())[:3] == (5, 0, 0)


async def test_the_recorder_says_that_a_redriven_mission_runs_again(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1], max_attempts=1))
    await fail(stores)
    assert await status(stores) is MissionStatus.FAILED
    await stores.missions.redrive("m1", ["m1.0"], "op", by="eve")
    kinds = [event.kind async for _, event in stores.recorder.read()]
    assert kinds[-3:] == ["mission.failed", "mission.running", "task.redriven"]


def waiting(partial: bool = True) -> dict[str, Any]:
    """A dag whose task c waits for a and b."""
    last = {"name": "c", "depends_on": ["a", "b"], "accept_partial": partial}
    nodes = [{"name": "a"}, {"name": "b"}, last]
    return {"inputs": [], "max_attempts": 1, "plan": {"strategy": "dag", "nodes": nodes}}


async def tell(stores: TenantStores) -> None:
    while await stores.missions.pass_failures(term=drive.TERM, by="hub"):
        pass


async def end_first(stores: TenantStores) -> str:
    (one,) = await drive.claim(stores)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])
    return one.task_id


async def test_a_task_that_fails_twice_before_it_is_told_counts_once(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(**waiting()))
    assert await end_first(stores) == "m1.a"
    (other,) = await drive.claim(stores)
    await stores.missions.redrive("m1", ["m1.a"], "op", by="eve")
    assert await end_first(stores) == "m1.a"
    await tell(stores)
    assert await counts(stores) == {"FAILED": 1, "PENDING": 1, "BLOCKED": 1}, "c still waits for b"
    await drive.hand_in(stores, other)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held)
    assert await counts(stores) == {"FAILED": 1, "ACCEPTED": 1, "READY": 1}


async def test_a_failure_taken_back_before_it_was_told_never_was(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(**waiting(partial=False)))
    assert await end_first(stores) == "m1.a"
    await drive.claim(stores)
    await stores.missions.redrive("m1", ["m1.a"], "op", by="eve")
    await drive.finish(stores, 1)
    await tell(stores)
    assert await counts(stores) == {"ACCEPTED": 1, "PENDING": 1, "BLOCKED": 1}


async def test_a_failure_not_yet_told_counts_when_the_last_other_input_is_there(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(**waiting(partial=False)))
    assert [await end_first(stores) for _ in range(2)] == ["m1.a", "m1.b"]
    await stores.missions.redrive("m1", ["m1.a"], "op", by="eve")
    await drive.finish(stores, 1)
    assert await counts(stores) == {"ACCEPTED": 1, "FAILED": 1, "CANCELLED": 1}, "c cannot run without b"


async def test_one_of_two_failed_inputs_is_not_enough_to_come_back(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(**waiting(partial=False)))
    for _ in range(2):
        await end_first(stores)
        await tell(stores)
    assert await status(stores) is MissionStatus.FAILED
    await stores.missions.redrive("m1", ["m1.a"], "op", by="eve")
    await revive(stores)
    assert await counts(stores) == {"READY": 1, "FAILED": 1, "CANCELLED": 1}
    await drive.finish(stores, 1)
    assert await status(stores) is MissionStatus.COMPLETED
    await stores.missions.redrive("m1", ["m1.b"], "op2", by="eve")
    await revive(stores)
    assert await counts(stores) == {"ACCEPTED": 1, "READY": 1, "BLOCKED": 1}
    await drive.finish(stores, 1)
    await drive.finish(stores, 1)
    assert await counts(stores) == {"ACCEPTED": 3}


async def test_a_failure_told_while_the_mission_was_over_is_known_when_it_comes_back(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(
        base, tenant, drive.spec(**waiting(partial=False), budget_usd=Decimal("0.001"))
    )
    failing, dear = await drive.claim(stores, 2)
    await stores.tasks.end("w1", [Ended(failing.task_id, failing.token, "error", "no", 0)])
    asked = Reservation("h", dear.task_id, dear.token, 2_000, 60)
    await stores.ledger.reserve([asked], term=drive.TERM, by="g")
    assert await status(stores) is MissionStatus.FAILED
    await sweep(stores)
    await tell(stores)
    await stores.missions.resume("m1", "op", by="eve", budget_microusd=5_000)
    await revive(stores)
    assert await counts(stores) == {"FAILED": 1, "READY": 1, "CANCELLED": 1}
    await drive.finish(stores, 1)
    assert await status(stores) is MissionStatus.COMPLETED
