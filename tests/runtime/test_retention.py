"""Finished missions leave Redis: whole, once, whoever dies; and stay while they cannot be archived."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from chimera.agents.context import Context
from chimera.agents.purse import Charge
from chimera.core.task import Task
from chimera.errors import NotFound
from chimera.runtime import retention as retention_module
from chimera.runtime.base import Base, TenantStores, open_base
from chimera.runtime.elector import Elector
from chimera.runtime.retention import Retention
from chimera.serving.gateway.archive import retained
from chimera.settings import Settings
from chimera.store import keys
from chimera.store import pruning as pruning_module
from chimera.store.blobs import Blobs
from chimera.store.dossiers import Dossiers
from chimera.store.scripts import OldTerm
from tests.runtime.fleet import registry, running
from tests.runtime.test_archivist import Killed, archiving, confined
from tests.store import drive, history
from tests.store.census import Census, remains


@pytest.fixture
async def near(base: Base) -> AsyncIterator[Base]:
    """A hub that keeps finished missions for no time at all."""
    opened = await open_base(base.settings.model_copy(update={"keep_missions_s": 0}))
    yield opened
    await opened.close()


def retention(base: Base) -> Retention:
    """One that nobody elected: its calls are given the term."""
    return Retention(base, Elector(base.election("orchestrator"), "hub-1"))


async def retire(by: Retention, tenant: str, *, term: int = drive.TERM, age_s: float = 0) -> int:
    return await by.retire([tenant], age_s=age_s, term=term)


async def here(stores: TenantStores) -> list[str]:
    return sorted(await stores.missions.list_ids(most=1_000))


async def all_of(stores: TenantStores, mission_id: str = "m1") -> Any:
    """Its tasks and actions, wherever they are."""
    reading = await stores.readings.open(mission_id)
    return await reading.tasks(0, 1_000), await reading.actions(0, 1_000)


async def nothing_remains(base: Base, stores: TenantStores, *mission_ids: str) -> None:
    census = await Census.take(base.redis, stores.missions.keys)
    for mission_id in mission_ids:
        assert remains(census, mission_id) == []


async def archived_events(stores: TenantStores) -> list[str]:
    return [e.mission_id async for _, e in stores.recorder.read() if e.kind == "mission.archived"]


async def test_a_fleets_missions_are_archived_after_their_time_and_read_as_before(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Retention, "sweep_s", 0.05)

    async def pays(task: Task, ctx: Context) -> Any:
        hold = await ctx.model.purse.reserve(amount_microusd=500, model="m", agent="pays", ttl_s=60)
        await ctx.model.purse.settle(hold, cost_microusd=300, charge=Charge("m", 1, 1, 300, "test"))
        return {"of": task.input}

    soon = await open_base(base.settings.model_copy(update={"keep_missions_s": 1.5}))
    try:
        async with running(soon, tenant, registry(pays=pays)) as fleet:
            await fleet.submit(drive.spec(agent="pays", inputs=list(range(30))))
            mission = await fleet.rest()
            before = await all_of(fleet.stores)
            assert await here(fleet.stores) == ["m1"], "not yet"
            async with asyncio.timeout(20):
                while await here(fleet.stores):  # noqa: ASYNC110 (it is told by an entry that this test does not trust)
                    await asyncio.sleep(0.05)
            after = await fleet.stores.readings.mission("m1")
            assert await all_of(fleet.stores) == before
    finally:
        await soon.close()
    assert (after.counts, after.settled_microusd) == (mission.counts, 30 * 300)
    assert after.archived_at_us - after.finished_at_us >= 1.5e6
    await nothing_remains(base, base.of(tenant), "m1")
    assert await archived_events(base.of(tenant)) == ["m1"]


async def test_a_fleet_keeps_what_is_younger(base: Base, tenant: str) -> None:
    stores = await drive.over(base, tenant)
    assert base.settings.keep_missions_s == 7 * 86_400
    assert await retire(retention(base), tenant, age_s=base.settings.keep_missions_s) == 0
    assert await here(stores) == ["m1"]


class Dying:
    """A store whose n-th call is the last thing its process does: it is made, and nobody hears the answer."""

    def __init__(self, store: Any, lives: list[int]) -> None:
        self._store, self._lives = store, lives

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found) or name == "writing":
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            answer = await found(*args, **kwargs)
            self._lives[0] -= 1
            if self._lives[0] == 0:
                raise Killed
            return answer

        return call


@pytest.mark.parametrize("step", range(1, 16))
async def test_death_at_any_step_repeats_it_and_loses_nothing(
    step: int, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "WINDOW", 2)
    monkeypatch.setattr(pruning_module, "BATCH", 2)
    stores = await drive.over(base, tenant, inputs=5)
    before = await all_of(stores)
    dying = retention(base)
    lives = [step]
    mortal = TenantStores(
        **{
            **{name: getattr(stores, name) for name in stores.__dataclass_fields__},
            **{name: Dying(getattr(stores, name), lives) for name in ("missions", "tasks", "pruning")},
        }
    )
    base._stores[tenant] = mortal
    with pytest.raises(Killed):
        await retire(dying, tenant)
    base._stores[tenant] = stores
    assert await all_of(stores) == before, "half-way"
    await retire(retention(base), tenant, term=drive.TERM + 1)
    assert await all_of(stores) == before
    assert await here(stores) == []
    assert await archived_events(stores) == ["m1"]
    await nothing_remains(base, stores, "m1")
    folder = Path(base.settings.blob_location) / tenant / "missions"
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["m1.ndjson.zst"]


async def test_a_leader_that_was_succeeded_half_way_stops_and_its_successor_goes_on(
    near: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning_module, "BATCH", 1)
    stores = await drive.over(near, tenant, inputs=4)
    before = await all_of(stores)
    prune, calls = stores.pruning.prune, 0

    async def superseded(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            await stores.missions.pass_failures(term=drive.TERM + 1, by="another")
        return await prune(*args, **kwargs)

    monkeypatch.setattr(stores.pruning, "prune", superseded)
    with pytest.raises(OldTerm):
        await retire(retention(near), tenant)
    assert await here(stores) == ["m1"]
    assert await all_of(stores) == before
    with pytest.raises(OldTerm):
        await retire(retention(near), tenant)
    monkeypatch.setattr(stores.pruning, "prune", prune)
    assert await retire(retention(near), tenant, term=drive.TERM + 1) == 1
    assert await all_of(stores) == before
    assert await archived_events(stores) == ["m1"]


@pytest.mark.parametrize("window", range(4))
async def test_a_leader_that_wakes_late_writes_nothing_over_what_its_successor_wrote(
    window: int, near: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept with some of the tasks read; when it reads on they are gone, in part or altogether."""
    monkeypatch.setattr(retention_module, "WINDOW", 2)
    stores = await drive.over(near, tenant, inputs=6)
    before, read = await all_of(stores), stores.missions.task_ids
    asked = 0

    async def sleeps(*args: Any, **kwargs: Any) -> list[str]:
        nonlocal asked
        asked += 1
        if asked == window + 1:
            monkeypatch.setattr(stores.missions, "task_ids", read)
            assert await retire(retention(near), tenant, term=drive.TERM + 1) == 1
        return await read(*args, **kwargs)

    monkeypatch.setattr(stores.missions, "task_ids", sleeps)
    try:
        assert await retire(retention(near), tenant) == 0
    except OldTerm:
        assert window == 3, "it had read all there was"
    assert await all_of(stores) == before
    assert await archived_events(stores) == ["m1"]


async def test_what_is_changed_while_it_is_archived_stays(
    near: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = await drive.accept_with(near, tenant)
    (errand,) = await drive.errands(stores)
    await drive.report(stores, errand, "failed")
    await drive.end(stores)
    read = stores.tasks.get_many

    async def meanwhile(ids: Any) -> Any:
        monkeypatch.setattr(stores.tasks, "get_many", read)
        await stores.actions.retry("m1", ["m1.0/0"], "o", by="t")
        return await read(ids)

    monkeypatch.setattr(stores.tasks, "get_many", meanwhile)
    assert await retire(retention(near), tenant) == 0
    assert await stores.dossiers.find("m1") is None
    assert await here(stores) == ["m1"]
    (errand,) = await drive.errands(stores)
    await drive.report(stores, errand, "done")
    assert await retire(retention(near), tenant) == 1
    (_, (action,)) = await all_of(stores)
    assert action.status == "DONE"


async def test_what_cannot_go_yet_or_is_damaged_holds_up_no_other(
    near: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "PAGE", 2)
    for number in range(8):
        stores = await drive.over(near, tenant, f"m{number}", inputs=1)
    for number in (0, 1, 2, 5):
        await near.redis.hset(stores.missions.keys.of("spend", f"m{number}"), "held", 1)
    await near.redis.hset(stores.missions.keys.of("mission", "m3"), "inputs", "many")
    with capture_logs() as logs:
        assert await retire(retention(near), tenant) == 3
    assert await here(stores) == ["m0", "m1", "m2", "m3", "m5"]
    named = [(line["event"], line.get("mission_id")) for line in logs if line["log_level"] == "error"]
    assert named == [("mission.damaged", "m3")]


async def test_tenants_take_turns_by_age_and_ones_trouble_is_not_anothers(near: Base, tenant: str) -> None:
    others = [f"{tenant}-a", f"{tenant}-b"]
    for mission_id in ("m1", "m2"):
        for one in others:
            await drive.over(near, one, mission_id, inputs=1)
    in_the_way = Path(near.settings.blob_location) / others[0] / "missions"
    in_the_way.write_text("in the way")
    by = retention(near)
    try:
        assert await by.retire(others, age_s=0, term=drive.TERM) == 2
        assert [await here(near.of(one)) for one in others] == [["m1", "m2"], []]
        health = await retained(near)()
        assert not health.ok
        assert "1 tenant(s) cannot be archived" in health.detail
        assert await by.retire(others, age_s=0, term=drive.TERM) == 0, (
            "it waits a while before it tries again"
        )
        in_the_way.unlink()
        # The next leader knows of the trouble, and tries at once.
        after = retention(near)
        await after._troubles.read()
        assert await after.retire(others, age_s=0, term=drive.TERM) == 2
        assert (await retained(near)()).ok
    finally:
        await near.retention_troubles.clear(others[0])


async def lead_from_now_on(base: Base, tenant: str) -> None:
    """A retention of its own process leads under higher terms than what was driven by hand."""
    await base.redis.set(keys.last_term(f"retention of {tenant}"), drive.TERM)


@pytest.mark.unmeasured
@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_it_may_be_killed_at_any_instant(
    base: Base, tenant: str, settings: Settings, tmp_path: Path
) -> None:
    chance = random.Random(5)
    own = await open_base(settings.model_copy(update={"blob_url": str(tmp_path / "blobs")}))
    stores, seen = own.of(tenant), {}
    try:
        for number in range(120):
            await drive.over(own, tenant, f"m{number}", inputs=7)
            seen[f"m{number}"] = await all_of(stores, f"m{number}")
        await lead_from_now_on(own, tenant)
        left = [len(seen)]
        while left[-1]:
            async with archiving(
                tenant, "free", settings, tmp_path / "blobs", tmp_path / "log", what="retention"
            ):
                await asyncio.sleep(0.05 + chance.random() * 0.2)  # then it is killed
            left.append(len(await here(stores)))
            for mission_id, before in seen.items():
                assert await all_of(stores, mission_id) == before
        assert len(left) > 2, f"it was never killed half-way: {left} were left"
        assert sorted(await archived_events(stores)) == sorted(seen)
        await nothing_remains(own, stores, *seen)
        names = await own.blobs.names(f"{tenant}/missions/m1")
        assert names == ["m1.ndjson.zst"]
    finally:
        await own.close()


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["rlimit", "tmpfs"])
async def test_a_full_disk_keeps_missions_in_redis_until_there_is_room(
    how: str, base: Base, tenant: str, settings: Settings, tmp_path: Path
) -> None:
    wrapped = confined(how)
    folder, log = tmp_path / "full", tmp_path / "log"
    folder.mkdir()
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(40))))
    for one in await drive.claim(stores, 40):
        noise = random.Random(one.task_id).randbytes(1_000).hex()
        await drive.hand_in(stores, one, noise)
    for held in await drive.review(stores, 40):
        await drive.judge(stores, held)
    await drive.end(stores)
    before = await all_of(stores)
    await lead_from_now_on(base, tenant)
    async with archiving(tenant, how, settings, folder, log, *wrapped, what="retention") as process:
        inside = Path(f"/proc/{process.pid}/root{folder}")
        await until_told(base, tenant, lambda said: said.get("failures", 0) >= 3)
        health = await retained(base)()
        assert {"tmpfs": "No space left on device", "rlimit": "File too large"}[how] in health.detail
        assert await here(stores) == ["m1"]
        assert await all_of(stores) == before
        near = Dossiers(Blobs(str(inside)), tenant)
        assert await near._blobs.names(f"{tenant}/missions/m1") == [], "nothing half-written is seen"
        await drive.submit(base, tenant, drive.spec(), "m2")  # work goes on
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        await until_told(base, tenant, lambda said: not said)
        async with asyncio.timeout(20):
            while "m1" in await here(stores):  # noqa: ASYNC110 (another process does it)
                await asyncio.sleep(0.02)
        dossier = await near.find("m1")
        assert dossier
        assert [task for task, _ in await dossier.filed(0, 100)] == before[0]
    text = log.read_text()
    assert "retention.failing" in text
    assert "make room" in text
    assert "retention.recovered" in text


async def until_told(base: Base, tenant: str, holds: Any) -> None:
    async with asyncio.timeout(60):
        while not holds((await base.retention_troubles.all()).get(tenant, {})):  # noqa: ASYNC110 (another process tells it)
            await asyncio.sleep(0.02)


async def test_the_archive_of_the_recorder_shows_an_archived_mission_from_end_to_end(
    near: Base, tenant: str
) -> None:
    await history.mission(near, tenant, "m1")
    await drive.end(near.of(tenant))
    assert await retire(retention(near), tenant) == 1
    await history.archive(near, tenant)
    kinds = [event.kind for _, event in await history.read(near, tenant, mission_id="m1")]
    assert (kinds[0], kinds[-1]) == ("mission.submitted", "mission.archived")
    with pytest.raises(NotFound):
        await near.of(tenant).missions.get("m1")
