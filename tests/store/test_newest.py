"""Missions of many tenants, newest first."""

from __future__ import annotations

import pytest

from chimera.runtime.base import Base
from chimera.store.newest import Place, glances, newest, owner_of
from tests.store import drive


async def test_missions_of_all_tenants_come_newest_first_and_page_by_page(base: Base, tenant: str) -> None:
    other = f"{tenant}-b"
    for owner, mission_id in ((tenant, "m1"), (other, "m2"), (tenant, "m3"), (other, "m4"), (tenant, "m5")):
        await drive.submit(base, owner, drive.spec(), mission_id, at_once=True)
    seen: list[str] = []
    before: Place | None = None
    while some := await newest(base.redis, [tenant, other], before=before, most=2):
        before = Place.parse(str(some[-1]))
        seen += [place.mission_id for place in some]
    assert seen == ["m5", "m4", "m3", "m2", "m1"]
    await base.redis.delete(*[key async for key in base.redis.scan_iter(f"{{{other}}}*")])


async def test_a_glance_says_what_a_list_shows(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(goal="Look", inputs=[1, 2]))
    await drive.finish(stores, 1)
    (place,) = await newest(base.redis, [tenant], most=5)
    (one,), damaged = await glances(base.redis, [place])
    assert not damaged
    assert (one.goal, one.agent, one.strategy, one.status) == ("Look", "echo", "map", "RUNNING")
    assert (one.counts["ACCEPTED"], one.counts["READY"], one.total_tasks) == (1, 1, 2)
    assert one.place == place


async def test_one_damaged_mission_is_named_and_the_others_are_shown(base: Base, tenant: str) -> None:
    for mission_id in ("m1", "m2", "m3"):
        await drive.submit(base, tenant, drive.spec(), mission_id, at_once=True)
    await base.redis.hset(base.of(tenant).missions.keys.of("mission", "m2"), "submitted_at", "yesterday")
    found, damaged = await glances(base.redis, await newest(base.redis, [tenant], most=5))
    assert [one.mission_id for one in found] == ["m3", "m1"]
    assert list(damaged) == ["m2"]


async def test_a_mission_that_was_pruned_meanwhile_is_left_out(base: Base, tenant: str) -> None:
    stores = await drive.over(base, tenant)
    places = await newest(base.redis, [tenant], most=5)
    await drive.archive(stores)
    assert await glances(base.redis, places) == ([], {})


async def test_whose_a_mission_is_takes_one_look_at_all_tenants(base: Base, tenant: str) -> None:
    await drive.submit(base, tenant, drive.spec(), "mine", at_once=True)
    assert await owner_of(base.redis, ["somebody", tenant], "mine") == tenant
    assert await owner_of(base.redis, ["somebody", tenant], "nobodys") is None


@pytest.mark.parametrize("text", ["", "1", "1/t", "x/t/m", "1/T/m", "1/t/", "1/t/m/n", "1/t/" + 65 * "m"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        Place.parse(text)
