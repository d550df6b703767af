"""The sampler notes each tenant's last hour, as the leader alone, and only what changed."""

from __future__ import annotations

from chimera.core.series import rates
from chimera.runtime.base import Base
from chimera.runtime.elector import Elector
from chimera.runtime.sampler import Sampler
from chimera.store.keys import TenantKeys
from chimera.store.series import series
from tests.redis_fixtures import logged_in
from tests.store import drive


async def leading(base: Base, tenant: str, replica: str = "r1") -> Elector:
    elector = Elector(base.election(f"orchestrator of {tenant}"), replica)
    await elector.run_once()
    assert elector.term is not None
    return elector


async def test_only_the_leader_samples(base: Base, tenant: str) -> None:
    await Sampler(base, Elector(base.election(f"orchestrator of {tenant}"), "r1")).run_once()
    assert not await base.redis.exists(TenantKeys(tenant).series)
    await Sampler(base, await leading(base, tenant)).run_once()
    assert await base.redis.xlen(TenantKeys(tenant).series) == 1


async def test_a_tenant_of_which_nothing_changed_is_passed_over(base: Base, tenant: str) -> None:
    sampler = Sampler(base, await leading(base, tenant))
    await drive.over(base, tenant)
    for _ in range(3):
        await sampler.sample(drive.TERM)
    assert await base.redis.xlen(TenantKeys(tenant).series) == 1
    # Another leader finds what this one wrote.
    await Sampler(base, await leading(base, tenant)).sample(drive.TERM + 1)
    assert await base.redis.xlen(TenantKeys(tenant).series) == 1


async def test_what_happens_after_a_calm_is_not_spread_over_it(base: Base, tenant: str) -> None:
    sampler = Sampler(base, await leading(base, tenant))
    await drive.over(base, tenant, "m1")
    for _ in range(3):
        await sampler.sample(drive.TERM)
    calm = await base.redis.time()
    await drive.over(base, tenant, "m2")
    await sampler.sample(drive.TERM)
    found = (await series(base.redis, [tenant], since_s=600, now=calm[0]))[tenant]
    assert [one.tally.of("task.accepted") for one in found] == [3, 3, 6]
    last = rates(found)[-1]
    assert last.since.of("task.accepted") == 3
    assert found[1].at_ms <= 1000 * calm[0] + calm[1] // 1000 < found[2].at_ms


async def test_the_orchestrators_own_user_may_do_it(base: Base, tenant: str) -> None:
    await drive.over(base, tenant)
    async with logged_in(base.settings, "orchestrator") as at:
        await Sampler(at, await leading(base, tenant)).sample(drive.TERM)
    assert await base.redis.xlen(TenantKeys(tenant).series) == 1
