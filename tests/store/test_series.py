"""Samples of the last hour in Redis: bounded, ordered, under a term, and read for many tenants at once."""

from __future__ import annotations

import pytest

from chimera.core.gauges import Gauges
from chimera.core.series import Sample
from chimera.core.tally import Tally
from chimera.runtime.base import Base
from chimera.store.keys import TenantKeys
from chimera.store.scripts import OldTerm
from chimera.store.series import MOST, add, look, newest, series
from tests.store import drive

NOW = 1_800_000_000


def sample(at_s: float, accepted: int = 1) -> Sample:
    return Sample(round(1000 * at_s), Tally({"task.accepted": accepted}), Gauges(workers=2))


async def test_samples_come_back_oldest_first_and_no_older_than_asked(base: Base, tenant: str) -> None:
    await add(
        base.redis, {tenant: [sample(NOW - 60, 1), sample(NOW - 5, 2), sample(NOW, 3)]}, term=drive.TERM
    )
    found = await series(base.redis, [tenant, f"{tenant}-none"], since_s=5, now=NOW)
    assert found == {tenant: [sample(NOW - 5, 2), sample(NOW, 3)], f"{tenant}-none": []}
    assert await newest(base.redis, [tenant, f"{tenant}-none"]) == {
        tenant: sample(NOW, 3),
        f"{tenant}-none": None,
    }
    assert await series(base.redis, [], since_s=5, now=NOW) == {}
    assert await newest(base.redis, []) == {}


async def test_a_sample_older_than_the_newest_is_passed_over(base: Base, tenant: str) -> None:
    for one in (sample(NOW, 2), sample(NOW - 5, 1), sample(NOW, 9)):
        await add(base.redis, {tenant: [one]}, term=drive.TERM)
    assert await series(base.redis, [tenant], since_s=60, now=NOW) == {tenant: [sample(NOW, 2)]}


async def test_a_leader_that_was_superseded_writes_none(base: Base, tenant: str) -> None:
    await add(base.redis, {tenant: [sample(NOW)]}, term=drive.TERM)
    with pytest.raises(OldTerm):
        await add(base.redis, {tenant: [sample(NOW + 5)]}, term=drive.TERM - 1)


async def test_an_hour_of_them_stays(base: Base, tenant: str) -> None:
    await add(base.redis, {tenant: [sample(NOW + n) for n in range(MOST + 300)]}, term=drive.TERM)
    assert MOST <= await base.redis.xlen(TenantKeys(tenant).series) < MOST + 150


async def test_samples_of_another_version_are_passed_over(base: Base, tenant: str) -> None:
    await base.redis.xadd(TenantKeys(tenant).series, {"named": "another", "figures": "1:1"}, id=f"{NOW}000-0")
    await add(base.redis, {tenant: [sample(NOW + 1)]}, term=drive.TERM)
    assert await series(base.redis, [tenant], since_s=60, now=NOW) == {tenant: [sample(NOW + 1)]}


async def test_a_look_has_what_was_counted_and_what_stands(base: Base, tenant: str) -> None:
    await drive.over(base, tenant, inputs=2)
    one = (await look(base.redis, [tenant]))[tenant]
    assert (one.tally.of("task.accepted"), one.gauges.missions_finished) == (2, 1)
    seconds, _ = await base.redis.time()
    assert abs(one.at_ms / 1000 - seconds) < 60
