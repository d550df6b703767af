"""The archivist follows a fleet, and survives its own death, a full disk and a store that was set back."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from chimera.agents.context import Context
from chimera.core.event import BEGINNING, expand
from chimera.core.plan import next_window
from chimera.core.task import Task
from chimera.errors import BlobsUnavailable, StoreUnavailable
from chimera.runtime import archivist as archivist_module
from chimera.runtime.archivist import Archivist
from chimera.runtime.base import Base, open_base
from chimera.serving.gateway.archive import archived, figures
from chimera.serving.gateway.figures import exposition
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from chimera.store import chain
from chimera.store.archive import Segment
from chimera.store.blobs import Blobs
from chimera.store.purge import purge
from chimera.store.removed import Removed
from tests.runtime.exporters import Lead
from tests.runtime.fleet import registry, running
from tests.store import drive, history

_numbers = itertools.count(1)
UNSHARED = ("unshare", "--user", "--map-root-user", "--mount")
HERE = Path(__file__).parents[2]


async def entries(base: Base, tenant: str) -> int:
    return int(await base.redis.xlen(base.of(tenant).recorder.keys.log))


async def whole(base: Base, tenant: str) -> int:
    """Read everything; how many events there are, none missing, none twice, none edited."""
    lines = await history.read(base, tenant)
    assert (await base.of(tenant).archive.verify())[1] == []
    assert [event.seq for _, event in lines] == list(range(1, len(lines) + 1))
    return len(lines)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Base]:
    base = await open_base(settings)
    try:
        yield base
    finally:
        await base.close()


async def test_it_follows_a_fleet_at_work_and_redis_keeps_a_window(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archivist_module, "SEGMENT_EVENTS", 100)
    monkeypatch.setattr(Archivist, "sweep_s", 0.02)

    async def brief(task: Task, ctx: Context) -> Any:
        return task.input

    quick = base.settings.model_copy(update={"recorder_live": 20, "recorder_flush_s": 0.05})
    async with opened(quick) as near:
        async with running(near, tenant, registry(brief=brief)) as fleet:
            await fleet.submit(drive.spec(agent="brief", inputs=list(range(300))))
            mission = await fleet.rest()
            await until_said(near, tenant, lambda behind, troubles: behind == 0)
            while await entries(near, tenant) > 20:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)
        assert mission.counts["ACCEPTED"] == 300
        assert len(await near.of(tenant).archive.segments()) > 3
        assert await whole(near, tenant) == (await near.of(tenant).recorder.last()).seq
        own = await history.read(near, tenant, mission_id="m1")
    accepted = [event.task_id for _, event in own if event.kind == "task.accepted"]
    assert len(accepted) == len(set(accepted)) == 300


async def test_a_segment_is_not_written_before_its_first_event_is_old_enough(base: Base, tenant: str) -> None:
    service = history.archivist(base)
    await history.write(base, tenant, 30)
    while await service.tend(tenant, term=drive.TERM):
        pass
    assert base.settings.recorder_flush_s == 60
    assert await base.of(tenant).archive.segments() == []
    await history.archive(base, tenant, service)
    assert len(await base.of(tenant).archive.segments()) == 1


async def test_a_segment_is_cut_where_it_is_full(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archivist_module, "SEGMENT_EVENTS", 7)
    await history.write(base, tenant, 30)
    await history.archive(base, tenant)
    segments = await base.of(tenant).archive.segments()
    assert [(one.first, one.last) for one in segments] == [(1, 7), (8, 14), (15, 21), (22, 28), (29, 30)]


async def test_a_last_segment_that_was_damaged_and_removed_is_written_again(base: Base, tenant: str) -> None:
    await history.write(base, tenant, 5)
    await history.archive(base, tenant)
    await history.write(base, tenant, 5)
    await history.archive(base, tenant)
    last = Path(base.settings.blob_location) / tenant / "recorder" / Segment(1, 6, 10).name
    last.write_bytes(last.read_bytes()[:10])
    fresh = history.archivist(base)
    base.of(tenant).archive._heads.clear()
    assert not await fresh.tend(tenant, term=drive.TERM)
    try:
        assert not (await archived(base)()).ok
        last.unlink()
        fresh._troubles._of[tenant].retry_at = 0
        await history.archive(base, tenant, fresh)
        assert (await archived(base)()).ok
    finally:
        await base.troubles.clear(tenant)
    assert last.exists()
    assert await whole(base, tenant) == 10


@pytest.mark.parametrize(
    "entry",
    [
        {"seq": 6, "at": 1, "by": "me", "events": "["},
        {"seq": 6, "at": 1, "by": "me", "events": '[["task.failed", 5, "", {}]]'},
        {"seq": 6, "at": 1, "events": "[]"},
    ],
)
async def test_an_entry_that_cannot_be_read_is_its_tenants_trouble_alone(
    base: Base, tenant: str, entry: dict[str, Any]
) -> None:
    await history.write(base, tenant, 5)
    await base.redis.xadd(base.of(tenant).sink.keys.log, entry)
    await base.redis.set(base.of(tenant).sink.keys.sequence, 6)
    fresh = history.archivist(base)
    try:
        while await fresh.tend(tenant, term=drive.TERM, flush=True):
            pass
        assert tenant in await base.troubles.all()
    finally:
        await base.troubles.clear(tenant)


class Killed(BaseException):
    """As if the process ended there."""


class DiesAfterWriting(Blobs):
    async def write(self, path: str, body: bytes) -> None:
        await super().write(path, body)
        raise Killed


@pytest.mark.parametrize("meanwhile", [0, 5])
async def test_death_between_write_and_advance_repeats_and_skips_nothing(
    base: Base, tenant: str, meanwhile: int
) -> None:
    await history.write(base, tenant, 10)
    await history.archive(base, tenant)
    await history.write(base, tenant, 10)
    stores = base.of(tenant)
    stores.archive._blobs = DiesAfterWriting(base.settings.blob_location)
    with pytest.raises(Killed):
        await history.archive(base, tenant)
    stores.archive._blobs = base.blobs
    stand = await stores.sink.stand()
    assert stand.cursor
    assert stand.cursor.at.seq == 10, "the cursor stands where it was"
    assert await whole(base, tenant) == 20
    await history.write(base, tenant, meanwhile)
    await history.archive(base, tenant)
    spans = [(one.first, one.last) for one in await stores.archive.segments()]
    assert spans == [(1, 10), (11, 20), *([(21, 25)] if meanwhile else [])]
    assert await whole(base, tenant) == 20 + meanwhile


async def test_a_leader_that_was_succeeded_leaves_no_gap_and_trims_nothing(base: Base, tenant: str) -> None:
    await history.write(base, tenant, 10)
    late = history.archivist(base)
    assert await late.tend(tenant, term=drive.TERM)  # joined: an epoch
    stores = base.of(tenant)
    stand = await stores.sink.stand()
    assert stand.cursor
    lines = await stores.sink.take(stand, stand.cursor, events=4, size=1 << 20)
    await history.archive(base, tenant, term=drive.TERM + 1)
    await history.write(base, tenant, 3)
    before = await entries(base, tenant)
    # It wakes up, and writes what it had read: fewer events than its successor did.
    assert lines
    await stores.archive.write(lines, stand.cursor.link)
    await history.archive(base, tenant, late)
    assert (await stores.sink.stand()).behind == 3
    assert await entries(base, tenant) == before
    assert await whole(base, tenant) == 13


@asynccontextmanager
async def archiving(
    tenant: str,
    how: str,
    settings: Settings,
    folder: Path,
    log: Path,
    *wrapped: str,
    what: str = "archivist",
) -> AsyncIterator[subprocess.Popen[str]]:
    """An archivist in a process of its own, working."""
    assert settings.redis_url
    environment = {
        **os.environ,
        "CHIMERA_REDIS_URL": settings.redis_url.get_secret_value(),
        "CHIMERA_STATE_DIR": str(settings.state_dir),
        "CHIMERA_BLOB_URL": str(folder),
        "CHIMERA_RECORDER_LIVE": "5",
        "CHIMERA_RECORDER_FLUSH_S": "0.01",
        "CHIMERA_LOG_FORMAT": "json",
    }
    command = [*wrapped, sys.executable, "-m", "tests.runtime.archiving", tenant, how, str(folder), what]
    with log.open("a") as errors:
        process = subprocess.Popen(  # noqa: ASYNC220 (it starts at once)
            command,
            env=environment,
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            while "ready" not in await said(process):
                assert process.poll() is None
            yield process
        finally:
            process.kill()
            await asyncio.to_thread(process.communicate)


async def said(process: subprocess.Popen[str]) -> str:
    """The next line of its output."""
    assert process.stdout
    return await asyncio.to_thread(process.stdout.readline)


@pytest.mark.unmeasured
@pytest.mark.chaos
async def test_it_may_be_killed_at_any_instant(
    base: Base, tenant: str, settings: Settings, tmp_path: Path
) -> None:
    chance = random.Random(3)
    for _ in range(3):
        async with archiving(tenant, "free", settings, tmp_path / "blobs", tmp_path / "log"):
            until = asyncio.get_running_loop().time() + 0.1 + chance.random() * 0.5
            while asyncio.get_running_loop().time() < until:
                await history.write(base, tenant, 10)
    assert len(await base.of(tenant).archive.segments()) > 3, "each of them has archived some"
    assert await entries(base, tenant) < await whole(base, tenant)
    await history.archive(base, tenant)
    assert await whole(base, tenant) == (await base.of(tenant).recorder.last()).seq


def confined(how: str) -> tuple[str, ...]:
    """What gives a process a small disk of this kind of its own; skips where there can be none."""
    if how != "tmpfs":
        return ()
    if subprocess.run([*UNSHARED, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this kernel lets nobody mount a file system in a namespace of its own")
    return UNSHARED


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["rlimit", "tmpfs"])
async def test_a_full_disk_stops_the_archive_and_nothing_else(
    how: str, base: Base, tenant: str, settings: Settings, tmp_path: Path
) -> None:
    wrapped = confined(how)
    folder, log = tmp_path / "full", tmp_path / "log"
    folder.mkdir()
    async with archiving(tenant, how, settings, folder, log, *wrapped) as process:
        inside = Path(f"/proc/{process.pid}/root{folder}")
        async with opened(settings.model_copy(update={"blob_url": str(inside)})) as near:
            await fill(near, tenant, how, inside, process)
    text = log.read_text()
    assert "archive.failing" in text
    assert "make room" in text
    assert "archive.recovered" in text


async def fill(near: Base, tenant: str, how: str, inside: Path, process: subprocess.Popen[str]) -> None:
    """Write more than there is room for, look at all there is to see, and make room."""
    mission = drive.spec(inputs=[1, 2, 3])
    await drive.submit(near, tenant, mission)
    window = next_window(mission, mission.inputs, cursor=0, inputs=3, width=20)
    assert await near.of(tenant).missions.plan("m1", window, cursor=0, term=1, by="hub")
    await history.write(near, tenant, 5)
    await until_said(near, tenant, lambda behind, troubles: behind == 0)
    if how == "rlimit":  # it sleeps: awake and at their heels, it might write segments that are small enough
        process.send_signal(signal.SIGSTOP)
    await history.write(near, tenant, 4_000)
    process.send_signal(signal.SIGCONT)
    await until_said(near, tenant, lambda behind, troubles: troubles.get("failures", 0) >= 3)
    health = await archived(near)()
    assert not health.ok
    assert {"tmpfs": "No space left on device", "rlimit": "File too large"}[how] in health.detail
    shown = exposition(await figures(near, [tenant]))
    behind = (await near.of(tenant).sink.stand()).behind
    assert behind > 1_000
    assert f'chimera_recorder_unarchived{{tenant="{tenant}"}} {behind}.0' in shown
    # Nothing is trimmed, nothing is half there, and work goes on.
    assert await entries(near, tenant) >= behind
    assert all(not name.name.startswith(".") for name in (inside / tenant / "recorder").iterdir())
    await drive.finish(near.of(tenant), 3)
    assert (await near.of(tenant).missions.get("m1")).counts["ACCEPTED"] == 3
    if how == "tmpfs":
        with pytest.raises(BlobsUnavailable, match="No space left"):
            await drive.submit(near, tenant, drive.spec(), "m2")  # its inputs find no room either
    count = await whole(near, tenant)
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    await until_said(near, tenant, lambda behind, troubles: behind == 0 and not troubles)
    while await entries(near, tenant) > 5:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.02)
    assert await whole(near, tenant) == count
    assert (await archived(near)()).ok


async def until_said(base: Base, tenant: str, holds: Any) -> None:
    async with asyncio.timeout(60):
        while True:
            stand = await base.of(tenant).sink.stand()
            if holds(stand.behind, (await base.troubles.all()).get(tenant, {})):
                return
            await asyncio.sleep(0.02)


class World:
    """A store of its own that can be set back, and what was ever written to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = RedisServer(directory / "redis", fsync="always")
        self.base: Base
        self.copies = 0
        self.ids: set[tuple[str, int]] = set()
        """Every event that the store has or had and trimmed, by entry and number."""
        self.kept: set[tuple[str, int]] = set()
        """Every event that was ever archived."""

    async def open(self) -> None:
        await asyncio.to_thread(self.server.start)
        self.base = await open_base(
            load(redis_url=self.server.url, state_dir=self.directory, recorder_live=3)
        )
        self.service = history.archivist(self.base)

    async def close(self) -> None:
        await self.base.close()
        await asyncio.to_thread(self.server.kill)

    async def note(self) -> None:
        """Remember what is there."""
        stores = self.base.of("acme")
        for entry, fields in await self.base.redis.xrange(stores.recorder.keys.log):
            self.ids |= {(entry, event.seq) for event in expand(fields)}
        async for _, lines in stores.archive.read(BEGINNING):
            self.kept |= {(at.entry, event.seq) for at, event in lines}

    def save(self) -> tuple[Path, set[tuple[str, int]]]:
        self.copies += 1
        to = self.directory / f"copy{self.copies}"
        shutil.copytree(self.server.directory / "appendonlydir", to)
        return to, set(self.ids)

    async def come_back(self, copy: tuple[Path, set[tuple[str, int]]] | None, *, empty: bool = False) -> None:
        """Killed and started: with all it had, with what a copy has, or with nothing."""
        await self.close()
        if copy or empty:
            shutil.rmtree(self.server.directory / "appendonlydir")
            self.ids = set(copy[1]) if copy else set()
            if copy:
                shutil.copytree(copy[0], self.server.directory / "appendonlydir")
        await self.open()


async def no_alarm(world: World) -> None:
    """The recorder's chain is whole, whatever the store went through."""
    found = await chain.verify(world.base.redis, "acme", world.base.of("acme").archive)
    assert found.sound, found.wrong


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.open()
    yield made
    await made.close()


async def test_a_restart_that_lost_nothing_is_a_new_epoch_without_a_gap(world: World) -> None:
    await history.write(world.base, "acme", 10)
    await history.archive(world.base, "acme", world.service)
    await history.write(world.base, "acme", 3)
    before = await history.read(world.base, "acme")
    await world.come_back(None)
    await history.write(world.base, "acme", 2)
    with pytest.raises(StoreUnavailable, match="not joined to the archive yet"):
        await no_alarm(world)
    # Whoever watched goes on at once, though nobody has opened the epoch.
    assert len(await history.read(world.base, "acme", after=before[11][0])) == 3
    await history.archive(world.base, "acme", world.service)
    lines = await history.read(world.base, "acme")
    await no_alarm(world)
    assert history.numbers(lines) == [*((1, n) for n in range(1, 11)), *((2, n) for n in range(11, 17))]
    assert lines[-1][1].details == {"epoch": 2, "after": 10, "lost": 0}
    # A watcher's position is of the epoch before: it gets nothing twice all the same.
    assert await history.read(world.base, "acme", after=before[11][0]) == lines[12:]


async def test_a_removed_tenants_recorder_is_archived_to_its_end_and_joined_whenever_the_store_comes_back(
    world: World,
) -> None:
    await world.base.tenants.create("acme", by="eve")
    await history.archive(world.base, "acme", world.service)
    await world.base.tenants.wind_up("acme", "op", by="eve", reason="left")
    keeper = Archivist(world.base, Lead())  # type: ignore[arg-type]  # (all it asks of one)
    await keeper.run_once()
    assert (await world.base.of("acme").sink.stand()).behind == 0
    await purge(world.base.redis, world.base.blobs, "acme", "op", by="eve", reason="asked")
    await keeper.run_once()
    assert (await world.base.of("acme").sink.stand()).behind == 0
    for epoch in (2, 3):
        await world.come_back(None)
        with pytest.raises(StoreUnavailable, match="not joined to the archive yet"):
            await no_alarm(world)
        # The same leader, connected again.
        keeper._base, keeper._removed = world.base, Removed(world.base.redis)
        await keeper.run_once()
        await no_alarm(world)
        assert (await history.read(world.base, "acme"))[-1][1].epoch == epoch


async def test_an_older_append_only_file_is_a_new_epoch_and_what_it_lacks_is_in_the_archive(
    world: World,
) -> None:
    await history.write(world.base, "acme", 10)
    await history.archive(world.base, "acme", world.service)
    await world.note()
    copy = world.save()
    await history.write(world.base, "acme", 10)
    await history.archive(world.base, "acme", world.service)
    before = await history.read(world.base, "acme")
    await world.come_back(copy)
    await history.write(world.base, "acme", 5)
    await history.archive(world.base, "acme", world.service)
    lines = await history.read(world.base, "acme")
    assert lines[:20] == before
    await no_alarm(world)
    assert history.numbers(lines[20:]) == [(2, n) for n in range(11, 17)]
    assert lines[-1][1].details == {"epoch": 2, "after": 10, "lost": 10}
    for index in (4, 12, 19, 22):
        assert await history.read(world.base, "acme", after=lines[index][0]) == lines[index + 1 :]


async def test_an_empty_store_is_a_new_epoch_from_the_first_number(world: World) -> None:
    await history.write(world.base, "acme", 10)
    await history.archive(world.base, "acme", world.service)
    before = await history.read(world.base, "acme")
    await world.come_back(None, empty=True)
    await history.archive(world.base, "acme", world.service)
    await history.write(world.base, "acme", 2)
    await history.archive(world.base, "acme", world.service)
    lines = await history.read(world.base, "acme")
    assert lines[:10] == before
    await no_alarm(world)
    assert history.numbers(lines[10:]) == [(2, 1), (2, 2), (2, 3)]
    assert lines[10][1].details == {"epoch": 2, "after": 0, "lost": 10}


async def test_a_copy_from_before_an_epoch_was_opened_still_has_its_events_once(world: World) -> None:
    """The archive filed them under the second epoch; the store that comes back has not heard of it."""
    await history.write(world.base, "acme", 5)
    await history.archive(world.base, "acme", world.service)
    await world.come_back(None)
    await history.write(world.base, "acme", 3)
    await world.note()
    copy = world.save()
    await history.write(world.base, "acme", 2)
    await history.archive(world.base, "acme", world.service)
    before = await history.read(world.base, "acme")
    assert history.numbers(before) == [*((1, n) for n in range(1, 6)), *((2, n) for n in range(6, 12))]
    await world.come_back(copy)
    await history.write(world.base, "acme", 2)
    await history.archive(world.base, "acme", world.service)
    lines = await history.read(world.base, "acme")
    assert lines[:11] == before
    await no_alarm(world)
    assert history.numbers(lines[11:]) == [(3, n) for n in range(9, 12)]
    assert lines[-1][1].details == {"epoch": 3, "after": 8, "lost": 3}
    for index in range(len(lines)):
        assert await history.read(world.base, "acme", after=lines[index][0]) == lines[index + 1 :]


async def test_an_epochs_number_is_given_once_though_nothing_of_it_was_archived(world: World) -> None:
    """Each time the store forgets that it had an epoch; a watcher may have seen its events."""
    for number in (1, 2, 3):
        await world.come_back(None, empty=True)
        await history.write(world.base, "acme", 2)
        for _ in range(2):
            await world.service.tend("acme", term=drive.TERM)  # opens it, and archives nothing yet
        assert (await world.base.of("acme").recorder.last()).epoch == number
    assert await world.base.of("acme").archive.segments() == []
    await history.archive(world.base, "acme", world.service)
    await no_alarm(world)
    assert history.numbers(await history.read(world.base, "acme")) == [(3, 1), (3, 2), (3, 3)]


@pytest.mark.chaos
@pytest.mark.timeout(300)
@examples(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
async def test_nothing_is_missing_or_twice_however_often_the_store_is_set_back(
    tmp_path: Path, data: st.DataObject
) -> None:
    """All that was ever archived, and all that the store has, each once, in an order that only grows."""
    world = World(tmp_path / f"world{next(_numbers)}")
    await world.open()
    try:
        await set_back_and_forth(world, data)
    finally:
        await world.close()


async def set_back_and_forth(world: World, data: st.DataObject) -> None:
    copies: list[tuple[Path, set[tuple[str, int]]]] = []
    kinds = st.sampled_from(["write", "archive", "crash", "copy", "restart", "older", "empty"])
    for step in ["write", *data.draw(st.lists(kinds, min_size=6, max_size=18)), "write"]:
        match step:
            case "write":
                await history.write(world.base, "acme", data.draw(st.integers(1, 9)))
            case "archive":
                await history.archive(world.base, "acme", world.service)
            case "crash":
                world.base.of("acme").archive._blobs = DiesAfterWriting(world.base.settings.blob_location)
                try:
                    await history.archive(world.base, "acme", world.service)
                except Killed:
                    world.service = history.archivist(world.base)
                world.base.of("acme").archive._blobs = world.base.blobs
            case "copy":
                await world.note()
                copies.append(world.save())
            case "older" if copies:
                await world.come_back(data.draw(st.sampled_from(copies)))
            case "empty":
                await world.come_back(None, empty=True)
            case _:
                await world.come_back(None)
        await world.note()
    await history.archive(world.base, "acme", world.service)
    await world.note()
    lines = await history.read(world.base, "acme")
    found = [(at.entry, event.seq) for at, event in lines]
    assert len(found) == len(set(found))
    assert set(found) == world.ids | world.kept
    assert (await world.base.of("acme").archive.verify())[1] == []
    await no_alarm(world)
    assert history.numbers(lines) == sorted(set(history.numbers(lines)))
    index = data.draw(st.integers(0, len(lines) - 1))
    assert await history.read(world.base, "acme", after=lines[index][0]) == lines[index + 1 :]
    await history.write(world.base, "acme", 2)
    await no_alarm(world)
