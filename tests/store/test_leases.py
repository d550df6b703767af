"""Claims, fences, renewals, lost leases and rescue."""

from __future__ import annotations

import asyncio
import os

import pytest

from chimera.core.lease import Renewal
from chimera.core.task import Priority
from chimera.errors import LeaseLost
from chimera.runtime.base import Base
from chimera.store import tasks
from chimera.store.connection import connect_sync
from chimera.store.scripts import Refusal, SyncScripts
from chimera.store.tasks import Ended, Heartbeat
from tests.store import drive


@pytest.fixture
def heartbeat(base: Base, tenant: str) -> Heartbeat:
    """A worker's heartbeat, with a client of its own."""
    return Heartbeat(SyncScripts(connect_sync(base.settings)), tenant, "w1", pid=os.getpid())


def beat(heartbeat: Heartbeat, *leases: tuple[str, int], lease_s: float = 5) -> Renewal:
    return heartbeat.renew(list(leases), lease_s=lease_s, slots=4, busy=len(leases))


async def expire(base: Base, tenant: str, *task_ids: str) -> None:
    """Make leases end now, as waiting would."""
    keys = base.of(tenant).tasks.keys
    for task_id in task_ids:
        await base.redis.zadd(keys.leases, {task_id: 1})


async def test_a_claim_looks_at_so_many_whatever_a_worker_asks_for(base: Base, tenant: str) -> None:
    """An agent with its worker's login may ask for all, and fill the lists: nobody else is kept waiting."""
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2]))
    keys, filled = stores.tasks.keys, 100_000
    await base.redis.lpush(keys.of("ready", "m1"), *["m1.9"] * filled)
    await base.redis.zadd(keys.leases, {f"m9.{number}": 1 for number in range(1_000)})
    huge = 10**9
    asked = ("w1", "c", 5_000_000, huge, huge, huge, 3, huge, 0)
    _, claimed = await stores.tasks._scripts.run("claim_tasks", [keys.root], *asked)
    assert claimed == []
    assert await base.redis.llen(keys.of("ready", "m1")) > filled / 3
    assert await base.redis.zcard(keys.leases) >= 900


async def test_a_claim_hands_out_each_task_once(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(20))))
    claims = await asyncio.gather(*(drive.claim(stores, 5, worker=f"w{n}") for n in range(6)))
    ids = [one.task_id for batch in claims for one in batch]
    assert len(ids) == len(set(ids)) == 20


async def test_the_same_claim_id_gives_the_same_tasks_again(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    first = await drive.claim(stores, 2, claim_id="c-once")
    assert await drive.claim(stores, 2, claim_id="c-once") == first
    assert len(await drive.claim(stores, 2)) == 1


async def test_a_token_grows_with_every_claim(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    tokens = []
    for _ in range(3):
        (one,) = await drive.claim(stores)
        tokens.append(one.token)
        await expire(base, tenant, one.task_id)
        await stores.tasks.rescue("test", lease_s=drive.LEASE_S)
    assert tokens == sorted(set(tokens))


async def test_a_late_result_is_refused_and_says_who_holds_the_task(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    (old,) = await drive.claim(stores, worker="slow")
    await expire(base, tenant, old.task_id)
    (new,) = await drive.claim(stores, worker="quick")
    answer = await drive.hand_in(stores, old, worker="slow")
    assert isinstance(answer, LeaseLost)
    assert answer.holder == "quick"
    assert answer.since_ms > 0
    assert "CHIMERA_LEASE_S" in str(answer)
    assert await drive.hand_in(stores, new, worker="quick") is None


async def test_handing_in_twice_is_one_result(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    (one,) = await drive.claim(stores)
    assert await drive.hand_in(stores, one, "first") is None
    assert await drive.hand_in(stores, one, "first") is None
    assert len(await drive.review(stores)) == 1


async def test_renewing_keeps_a_lease_and_tells_of_a_lost_one(
    base: Base, tenant: str, heartbeat: Heartbeat
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    kept, lost = await drive.claim(stores, 2)
    await expire(base, tenant, lost.task_id)
    await stores.tasks.rescue("test", lease_s=drive.LEASE_S)
    renewal = heartbeat.renew(
        [(kept.task_id, kept.token), (lost.task_id, lost.token)], lease_s=5, slots=4, busy=2
    )
    assert set(renewal.lost) == {lost.lease}
    assert await stores.tasks.next_expiry_us() is not None


async def test_an_attempt_is_not_renewed_beyond_its_time(
    base: Base, tenant: str, heartbeat: Heartbeat
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"], task_timeout_s=0.01))
    (one,) = await drive.claim(stores)
    await base.redis.hset(stores.tasks.keys.of("task", one.task_id), "claimed_at", one.expires_at_us - 10**9)
    renewal = heartbeat.renew([(one.task_id, one.token)], lease_s=5, slots=4, busy=1)
    assert renewal.overdue == (one.lease,)
    heartbeat.end([Ended(one.task_id, one.token, "timeout", "too slow")])
    task = await stores.tasks.get(one.task_id)
    assert (task.status, task.tallies) == ("READY", {"timeouts": 1})


async def test_a_dead_workers_tasks_are_claimed_elsewhere_and_the_crash_is_counted(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    held = await drive.claim(stores, 3, worker="dead")
    await expire(base, tenant, *(one.task_id for one in held))
    again = await drive.claim(stores, 3, worker="alive")
    assert {one.task_id for one in again} == {one.task_id for one in held}
    assert (await stores.tasks.get(held[0].task_id)).tallies == {"crashes": 1}
    assert again[0].attempt == 2


async def test_a_lease_lost_by_a_living_worker_is_no_crash(
    base: Base, tenant: str, heartbeat: Heartbeat
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    (one,) = await drive.claim(stores, worker="w1")
    beat(heartbeat)
    await expire(base, tenant, one.task_id)
    await stores.tasks.rescue("test", lease_s=drive.LEASE_S)
    assert (await stores.tasks.get(one.task_id)).tallies == {"lapses": 1}


async def test_a_beat_that_did_not_know_of_a_claim_yet_prolongs_its_lease(
    base: Base, tenant: str, heartbeat: Heartbeat
) -> None:
    # So a worker that dies right afterwards has died: its task did not lapse.
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    (one,) = await drive.claim(stores, worker="w1")
    keys, now = stores.tasks.keys, round((await base.redis.time())[0] * 1e6)
    beat(heartbeat)
    await base.redis.zadd(keys.workers, {"w1": now + 2_000_000})
    await base.redis.zadd(keys.leases, {one.task_id: now})
    assert (await stores.tasks.rescue("test", lease_s=5))[0] == 0
    assert await base.redis.zscore(keys.leases, one.task_id) == now + 2_000_000
    assert not beat(heartbeat, one.lease).lost

    await base.redis.zadd(keys.workers, {"w1": now})
    await base.redis.zadd(keys.leases, {one.task_id: now})
    assert (await stores.tasks.rescue("test", lease_s=5))[0] == 1
    assert (await stores.tasks.get(one.task_id)).tallies == {"crashes": 1}


@pytest.mark.parametrize("how", ["renewing", "handing in", "ending"])
async def test_a_worker_taken_for_dead_that_comes_back_was_only_late(
    base: Base, tenant: str, heartbeat: Heartbeat, how: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    (one,) = await drive.claim(stores, worker="w1")
    await expire(base, tenant, one.task_id)
    await drive.claim(stores, worker="w2")
    assert (await stores.tasks.get(one.task_id)).tallies == {"crashes": 1}
    for _ in range(2):
        match how:
            case "renewing":
                beat(heartbeat, one.lease)
            case "handing in":
                await drive.hand_in(stores, one)
            case _:
                await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no")])
    assert (await stores.tasks.get(one.task_id)).tallies == {"lapses": 1}
    assert (await stores.missions.get("m1")).tallies == {"lapses": 1}


async def test_errors_count_as_attempts_and_hand_backs_do_not(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"], max_attempts=2))
    for kind, status in (("return", "READY"), ("error", "READY"), ("return", "READY"), ("error", "FAILED")):
        (one,) = await drive.claim(stores)
        ended = [Ended(one.task_id, one.token, kind, "why")]  # type: ignore[arg-type]  # (wider than declared, on purpose)
        assert await stores.tasks.end("w1", ended) == [status]
        assert await stores.tasks.end("w1", ended) == [status], "the same again changes nothing"
    task = await stores.tasks.get("m1.0")
    assert (task.reason, task.last_error) == ("agent_error", "why")


async def test_a_delayed_task_comes_back_when_its_time_has_come(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    (one,) = await drive.claim(stores)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "return", delay_s=3600)])
    assert await drive.claim(stores) == []
    await base.redis.zadd(stores.tasks.keys.later, {one.task_id: 1})
    assert (await stores.tasks.rescue("test", lease_s=drive.LEASE_S))[2] == 1
    assert len(await drive.claim(stores)) == 1


async def test_high_priority_goes_first_and_fills_express_slots(base: Base, tenant: str) -> None:
    await drive.begin(base, tenant, drive.spec(inputs=list(range(5)), priority=Priority.LOW), "mlow")
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2], priority=Priority.HIGH), "mhigh")
    claims = await stores.tasks.claim("w1", "c", lease_s=5, general=1, high=3, slots=16)
    assert [one.mission_id for one in claims] == ["mhigh", "mhigh", "mlow"][: len(claims)]
    assert len(claims) == 3
    more = await stores.tasks.claim("w1", "c2", lease_s=5, general=0, high=2, slots=16)
    assert more == [], "an express slot never takes ordinary work"


async def test_missions_of_one_tenant_take_turns(base: Base, tenant: str) -> None:
    for number in range(3):
        await drive.begin(base, tenant, drive.spec(inputs=list(range(10))), f"m{number}")
    stores = base.of(tenant)
    served = [(await drive.claim(stores, 1))[0].mission_id for _ in range(9)]
    assert {served.count(f"m{number}") for number in range(3)} == {3}


async def test_a_result_under_an_older_state_is_refused_and_done_again(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    (old,) = await drive.claim(stores)
    assert await stores.missions.edit("m1", "op1", by="test", goal="another") == 2
    assert await stores.missions.edit("m1", "op1", by="test", goal="another") == 2
    assert await drive.hand_in(stores, old) is Refusal.STALE
    (new,) = await drive.claim(stores)
    assert new.state_version == 2
    assert await drive.hand_in(stores, new) is None
    assert (await stores.tasks.get("m1.0")).tallies == {"stale": 1}


async def test_a_state_that_churns_asks_a_human(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    for number in range(5):
        (one,) = await drive.claim(stores)
        await stores.missions.edit("m1", f"op{number}", by="test", goal=f"goal {number}")
        assert await drive.hand_in(stores, one) is Refusal.STALE
    task = await stores.tasks.get("m1.0")
    assert (task.status, task.reason) == ("ESCALATED", "state_churn")


async def test_a_bell_rings_for_no_more_workers_than_there_are(
    base: Base, tenant: str, heartbeat: Heartbeat
) -> None:
    beat(heartbeat)
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(50))))
    assert await base.redis.llen(stores.tasks.keys.bell) == 1


async def test_many_leases_are_renewed_in_several_calls_and_told_apart(
    base: Base, tenant: str, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "MAX_BATCH", 10)
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(25))))
    claims = [one for _ in range(3) for one in await drive.claim(stores, 10, lease_s=1, slots=32)]
    lost = claims[17]
    leases = [one.lease for one in claims if one is not lost] + [(lost.task_id, lost.token - 1)]
    renewal = await asyncio.to_thread(beat, heartbeat, *leases, lease_s=60)
    assert list(renewal.lost) == [(lost.task_id, lost.token - 1)]
    ends = dict(await base.redis.zrange(stores.tasks.keys.leases, 0, -1, withscores=True))
    late = {task_id for task_id, end in ends.items() if end > renewal.now_us + 50_000_000}
    assert late == {one.task_id for one in claims if one is not lost}
