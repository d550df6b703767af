"""What the scripts count beside the recorder: by kind, by time, tokens; for many tenants at once."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime

from chimera.core.event import KINDS
from chimera.core.histogram import BOUNDS_MS
from chimera.core.tally import FIELDS
from chimera.runtime.base import Base
from chimera.store.connection import connect_sync
from chimera.store.gauges import gauges
from chimera.store.keys import TenantKeys
from chimera.store.ledger import Reservation, Settlement
from chimera.store.scripts import SyncScripts
from chimera.store.tallies import tallies
from chimera.store.tasks import Ended, Heartbeat
from tests.store import clock, drive

START = 1_800_000_000.0


async def test_every_event_is_counted_by_its_kind(base: Base, tenant: str) -> None:
    stores = await drive.over(base, tenant)
    counted = (await tallies(base.redis, [tenant]))[tenant]
    told = Counter([event.kind async for _, event in stores.recorder.read()])
    assert told["task.accepted"] == 3
    assert {kind: counted.of(kind) for kind in KINDS if counted.of(kind)} == dict(told)


async def test_many_of_a_kind_in_one_call_are_counted_at_once(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(50))))
    before = (await base.redis.info("commandstats"))["cmdstat_hincrby"]["calls"]
    assert len(await drive.claim(stores, 50, slots=50)) == 50
    after = (await base.redis.info("commandstats"))["cmdstat_hincrby"]["calls"]
    # Of the mission: two statuses. Of the tenant: what is READY, and one for fifty events of a kind.
    assert after - before == 4
    assert (await tallies(base.redis, [tenant]))[tenant].of("task.claimed") == 50


async def test_tasks_attempts_and_verdicts_are_timed(base: Base, tenant: str) -> None:
    with clock.set_by_hand():
        await clock.set_to(base, tenant, datetime.fromtimestamp(START, UTC))
        stores = await drive.begin(base, tenant, drive.spec(inputs=[1], priority="low"))
        await clock.set_to(base, tenant, datetime.fromtimestamp(START + 1, UTC))
        (one,) = await drive.claim(stores, lease_s=9e5)
        await clock.set_to(base, tenant, datetime.fromtimestamp(START + 1.2, UTC))
        await drive.hand_in(stores, one)
        (held,) = await drive.review(stores, lease_s=9e5)
        await clock.set_to(base, tenant, datetime.fromtimestamp(START + 1.25, UTC))
        await drive.judge(stores, held)
    counted = (await tallies(base.redis, [tenant]))[tenant]
    told = {name: counted.times(name) for name in ("task:low", "task:high", "attempt", "verdict", "model")}
    assert {name: (one.count, one.ms) for name, one in told.items()} == {
        "task:low": (1, 1_250),
        "task:high": (0, 0),
        "attempt": (1, 200),
        "verdict": (1, 50),
        "model": (0, 0),
    }
    assert told["attempt"].within[BOUNDS_MS.index(250)] == 1


async def test_a_task_that_waited_for_others_is_ready_from_when_they_were_there(
    base: Base, tenant: str
) -> None:
    with clock.set_by_hand():
        await clock.set_to(base, tenant, datetime.fromtimestamp(START, UTC))
        dag = {"plan": {"strategy": "map_reduce"}}
        stores = await drive.begin(base, tenant, drive.spec(inputs=[1], **dag))
        await clock.set_to(base, tenant, datetime.fromtimestamp(START + 5, UTC))
        await drive.finish(stores, 1)
        await clock.set_to(base, tenant, datetime.fromtimestamp(START + 7, UTC))
        await drive.finish(stores, 1)
    counted = (await tallies(base.redis, [tenant]))[tenant]
    assert (counted.times("task:medium").count, counted.times("task:medium").ms) == (2, 5_000 + 2_000)


async def test_an_attempt_without_a_result_is_timed_too(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (one,) = await drive.claim(stores)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "it raised")])
    counted = (await tallies(base.redis, [tenant]))[tenant]
    assert counted.times("attempt").count == counted.of("task.erred") == 1


async def test_what_a_worker_wrote_that_is_no_time_breaks_nothing(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2, 3, 4]))
    keys = TenantKeys(tenant)
    for number, nonsense in enumerate(("nan", "inf", "-1e300", "soon")):
        await base.redis.hset(keys.of("task", f"m1.{number}"), "planned_at", nonsense)
    await drive.finish(stores, 4)
    counted = (await tallies(base.redis, [tenant]))[tenant]
    assert counted.of("task.accepted") == 4
    assert counted.times("task:medium").count == 0


async def test_tokens_time_and_refusals_of_paid_calls_are_counted(base: Base, tenant: str) -> None:
    stores = base.of(tenant)
    await stores.ledger.set_limits({drive.DAY: 10}, by="test")
    asked = [Reservation(f"h{n}", "", 0, 4, 60) for n in range(4)]
    await stores.ledger.reserve(asked, term=drive.TERM, by="g")
    charge = {"input_tokens": 30, "output_tokens": 7, "cached_tokens": -1, "latency_ms": 420}
    settled = [
        Settlement("h0", 3, json.dumps(charge)),
        Settlement("h1", 3, '{"input_tokens": "many", "latency_ms": 1e999, "output_tokens": null}'),
    ]
    await stores.ledger.settle(settled, term=drive.TERM, by="g", **drive.KEEP)
    await stores.ledger.settle(settled, term=drive.TERM, by="g", **drive.KEEP)
    counted = (await tallies(base.redis, [tenant]))[tenant]
    tokens = {name: counted.of(name) for name in ("input_tokens", "output_tokens", "cached_tokens")}
    assert tokens == {"input_tokens": 30, "output_tokens": 7, "cached_tokens": 0}
    assert (counted.times("model").count, counted.times("model").ms) == (1, 420)
    assert (counted.of("spend.refused"), counted.of("refused:contended")) == (2, 2)
    stands = (await gauges(base.redis, [tenant]))[tenant]
    assert (stands.settled_microusd, stands.held_microusd) == (6, 0)


async def test_fields_that_somebody_else_made_are_not_read(base: Base, tenant: str) -> None:
    await base.redis.hset(TenantKeys(tenant).tally, mapping={f"junk{n}": 1 for n in range(1000)})
    assert (await tallies(base.redis, [tenant]))[tenant].totals == {}
    assert len(set(FIELDS)) == len(FIELDS)


async def test_what_stands_is_told_for_many_tenants(base: Base, tenant: str) -> None:
    for number, priority in enumerate(("high", "medium", "low")):
        await drive.begin(
            base, tenant, drive.spec(inputs=[1] * (number + 1), priority=priority), f"m{number}"
        )
    stores = base.of(tenant)
    with closing(connect_sync(base.settings)) as connection:
        Heartbeat(SyncScripts(connection), tenant, "w1", pid=7).renew([], lease_s=60, slots=16, busy=3)
    (one,) = await drive.claim(stores, 1)
    two, three = await drive.claim(stores, 2)
    for claim in (one, two, three):
        await drive.hand_in(stores, claim)
    held, *_ = await drive.review(stores, 2)
    await drive.judge(stores, held, drive.verdict("escalate", 0.8))
    await drive.claim(stores, 1)
    told = await gauges(base.redis, [tenant, f"{tenant}-none"])
    stands = told[tenant]
    assert (stands.ready_high, stands.ready_medium, stands.ready_low, stands.ready) == (0, 0, 2, 2)
    assert (stands.leases, stands.reviews, stands.inbox) == (1, 2, 1)
    assert (stands.workers, stands.slots_busy, stands.slots_free) == (1, 3, 13)
    assert (stands.missions_active, stands.missions_finished) == (3, 0)
    assert told[f"{tenant}-none"] == type(stands)()
    assert await gauges(base.redis, []) == {}
    assert await tallies(base.redis, []) == {}


async def test_with_nothing_open_nothing_is_ready_whatever_was_counted(base: Base, tenant: str) -> None:
    await base.redis.hset(TenantKeys(tenant).depth, "medium", -5)
    await drive.over(base, tenant)
    assert await base.redis.hgetall(TenantKeys(tenant).depth) == {"high": "0", "medium": "0", "low": "0"}
