"""Films of real missions: what the recorder told is where Redis has each task, live, later and archived."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chimera.core.task import TaskStatus
from chimera.dashboard.film import CODES, UNPLANNED, Film
from chimera.dashboard.films import Films, TooLong
from chimera.runtime.base import Base, TenantStores
from tests.dashboard import crowd
from tests.store import drive

DAG = {
    "strategy": "dag",
    "nodes": [
        {"name": "read", "input": 1},
        {"name": "left", "depends_on": ["read"]},
        {"name": "right", "depends_on": ["read"]},
        {"name": "join", "depends_on": ["left", "right"]},
    ],
}


async def film_of(films: Films, base: Base, tenant: str, mission_id: str = "m1") -> Film:
    mission = await base.of(tenant).readings.mission(mission_id)
    for reel in films._reels.values():
        reel.read_at = float("-inf")
    whole = False
    while not whole:
        film, whole = await films.film(base, tenant, mission)
    return film


async def in_redis(stores: TenantStores, film: Film, mission_id: str = "m1") -> dict[str, str]:
    ids = await stores.missions.task_ids(mission_id, most=100_000)
    return {one.task_id: one.status for one in await stores.tasks.get_many(ids)}


def in_film(film: Film) -> dict[str, str]:
    return {
        f"{film.mission_id}.{film.roster.name(number)}": CODES[code]
        for number, code in enumerate(film.now)
        if code != UNPLANNED
    }


async def test_at_every_turn_of_a_tree_the_film_has_each_task_where_redis_has_it(
    base: Base, tenant: str
) -> None:
    spec = drive.spec(inputs=list(range(50)), plan={"strategy": "map_reduce"}, max_attempts=2)
    stores, films = await crowd.make(base, tenant, spec), Films()
    while await crowd.turn(stores, most=9, error_every=4, reject_every=5):
        film = await film_of(films, base, tenant)
        assert in_film(film) == await in_redis(stores, film)
        await stores.missions.pass_failures(term=drive.TERM, by="test")
    film = await film_of(films, base, tenant)
    assert in_film(film) == await in_redis(stores, film)
    money = await stores.missions.get("m1")
    assert film.aside(len(film)).settled_microusd == money.settled_microusd > 0
    assert sum(step.settled for step in film.steps) == money.settled_microusd
    assert sum(step.claims for step in film.steps) == film.aside(len(film)).attempts
    await films.close()


async def test_what_ends_with_its_mission_and_comes_back_stands_where_redis_has_it(
    base: Base, tenant: str
) -> None:
    stores, films = await drive.begin(base, tenant, drive.spec(inputs=[], plan=DAG, max_attempts=1)), Films()
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("reject", 0))
    while await stores.missions.pass_failures(term=drive.TERM, by="test"):
        pass
    await drive.end(stores)
    film = await film_of(films, base, tenant)
    assert in_film(film) == await in_redis(stores, film)
    assert set(in_film(film).values()) == {"FAILED", "CANCELLED"}
    assert await stores.missions.redrive("m1", ["m1.read"], "op", by="test") == 1
    await drive.end(stores)
    film = await film_of(films, base, tenant)
    assert in_film(film) == await in_redis(stores, film)
    assert in_film(film)["m1.read"] == "READY"
    await films.close()


async def test_an_archived_missions_film_is_the_same_as_before(base: Base, tenant: str) -> None:
    stores, films = await drive.over(base, tenant), Films()
    before = await film_of(films, base, tenant)
    await drive.archive(stores)
    after = await film_of(Films(), base, tenant)
    assert in_film(after) == in_film(before) == {f"m1.{at}": "ACCEPTED" for at in range(3)}
    await films.close()


async def test_however_many_ask_at_once_the_recorder_is_read_once(base: Base, tenant: str) -> None:
    stores, films = await drive.over(base, tenant), Films()
    mission, read = await stores.readings.mission("m1"), 0
    pages = stores.recorder.pages

    def counting(**how: Any) -> Any:
        nonlocal read
        read += 1
        return pages(**how)

    stores.recorder.pages = counting  # type: ignore[method-assign]  # (a reader of the test, in its place)
    found = await asyncio.gather(*(films.film(base, tenant, mission) for _ in range(20)))
    assert read == 1
    assert {id(film) for film, _ in found} == {id(found[0][0])}
    await films.close()


async def test_films_are_bounded_by_weight_and_the_one_looked_at_longest_ago_goes(
    base: Base, tenant: str
) -> None:
    for mission_id in ("m1", "m2", "m3"):
        await drive.over(base, tenant, mission_id)
    light = (await film_of(Films(), base, tenant)).weight
    films = Films(all_bytes=round(2.5 * light))
    for mission_id in ("m1", "m2", "m1", "m3"):
        await film_of(films, base, tenant, mission_id)
    assert [mission_id for _, mission_id in films._reels] == ["m1", "m3"]
    assert films.weight <= 2.5 * light
    await films.close()


async def test_who_waits_for_a_film_that_gives_way_to_another_is_given_what_there_is(
    base: Base, tenant: str
) -> None:
    for mission_id in ("m1", "m2"):
        stores = await drive.over(base, tenant, mission_id)
    light = (await film_of(Films(), base, tenant)).weight
    films, pages, begun = Films(all_bytes=round(1.5 * light)), stores.recorder.pages, asyncio.Event()
    never = asyncio.Event()

    async def endless(**how: Any) -> Any:
        async for reached, lines in pages(**how):
            yield reached, lines
        if how["mission_id"] == "m1":
            begun.set()
            await never.wait()

    stores.recorder.pages = endless  # type: ignore[method-assign]  # (a reader of the test, in its place)
    waiting = asyncio.create_task(films.film(base, tenant, await stores.readings.mission("m1")))
    await begun.wait()
    await film_of(films, base, tenant, "m2")
    film, whole = await waiting
    assert (len(film) > 0, whole) == (True, False)
    await films.close()


async def test_a_mission_too_long_to_be_kept_is_refused_and_nothing_of_it_stays(
    base: Base, tenant: str
) -> None:
    stores = await drive.over(base, tenant)
    mission, films = await stores.readings.mission("m1"), Films(most_bytes=4_000)
    for _ in range(2):
        with pytest.raises(TooLong):
            await films.film(base, tenant, mission)
    assert all(len(reel.film) == 0 for reel in films._reels.values())
    await films.close()


async def test_a_film_goes_on_from_where_its_reading_was_cut(base: Base, tenant: str) -> None:
    stores, films = await drive.over(base, tenant), Films()
    mission = await stores.readings.mission("m1")
    pages, cut = stores.recorder.pages, True

    async def halves(**how: Any) -> Any:
        async for reached, lines in pages(**how):
            if cut:
                for at, event in lines[: len(lines) // 2]:
                    yield at, [(at, event)]
                raise ConnectionResetError
            yield reached, lines

    stores.recorder.pages = halves  # type: ignore[method-assign]  # (a reader of the test, in its place)
    with pytest.raises(ConnectionResetError):
        await films.film(base, tenant, mission)
    cut = False
    film, whole = await films.film(base, tenant, mission)
    assert whole
    assert in_film(film) == await in_redis(stores, film)
    assert film.counts(len(film))[0][CODES.index(TaskStatus.ACCEPTED)] == 3
    await films.close()
