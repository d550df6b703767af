"""`tenant remove --purge`: nothing of a tenant's content is left anywhere, and its recorder is whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from chimera.errors import BlobsUnavailable, Conflict
from chimera.runtime.base import Base, TenantStores
from chimera.store.blobs import Blobs
from chimera.store.chain import verify
from chimera.store.keys import TenantKeys
from chimera.store.ledger import Reservation, Settlement
from chimera.store.purge import purge
from tests.store import drive, history

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLANTED = "xylophone-4711"


async def planted(base: Base, tenant: str) -> TenantStores:
    """Content in every place: two missions in Redis, with inputs, context, results, verdicts, kept replies,
    actions; one in the blob store; and an archive of the recorder."""
    await base.tenants.add(tenant)
    stores = base.of(tenant)
    await drive.over(base, tenant, "m0", inputs=2, goal=PLANTED)
    await drive.archive(stores, "m0")
    hook = drive.HOOK.model_copy(update={"body": {"said": PLANTED}})
    for mission_id in ("m1", "m2"):
        mission = drive.spec(goal=PLANTED, context={"about": PLANTED}, inputs=[PLANTED, PLANTED])
        await drive.begin(base, tenant, mission, mission_id)
        first, second = await drive.claim(stores, 2)
        held = Reservation(f"h{mission_id}", first.task_id, first.token, 400, 60)
        assert await stores.ledger.reserve([held], term=drive.TERM, by="g") == [None]
        paid = Settlement(f"h{mission_id}", 300, "", first.round, "call", PLANTED)
        await stores.ledger.settle([paid], term=drive.TERM, by="g", **drive.KEEP)
        assert await drive.hand_in(stores, first, {"said": PLANTED}, actions=(hook,)) is None
        assert await drive.hand_in(stores, second, {"said": PLANTED}) is None
        for one, decision in zip(await drive.review(stores), ("accept", "escalate"), strict=True):
            await drive.judge(stores, one, drive.verdict(decision, 1.0, PLANTED))
        for errand in await drive.errands(stores):
            await drive.report(stores, errand)
    await history.archive(base, tenant)
    for mission_id in ("m1", "m2"):
        await stores.missions.cancel(mission_id, by="eve", reason="the end")
        await stores.missions.sweep(mission_id, term=drive.TERM, by="hub")
    return stores


async def in_redis(base: Base, tenant: str, text: str) -> list[str]:
    """Keys of the tenant that name it or hold it; of its recorder too."""
    found = []
    for name in await base.redis.keys(f"{TenantKeys(tenant).root}*"):
        kind = await base.redis.type(name)
        if kind == "hash":
            value: Any = await base.redis.hgetall(name)
        elif kind == "list":
            value = await base.redis.lrange(name, 0, -1)
        elif kind == "set":
            value = await base.redis.smembers(name)
        elif kind == "zset":
            value = await base.redis.zrange(name, 0, -1)
        elif kind == "stream":
            value = await base.redis.xrange(name)
        else:
            value = await base.redis.get(name)
        if text in f"{name} {value}":
            found.append(name)
    return found


def in_files(base: Base, tenant: str, text: str) -> list[str]:
    """Files of the tenant's that hold it, uncompressed too."""
    found = []
    for path in (Path(base.settings.blob_location) / tenant).rglob("*"):
        if path.is_file():
            body = path.read_bytes()
            try:
                plain = zstd.decompress(body)
            except zstd.ZstdError:
                plain = b""
            if text.encode() in body + plain:
                found.append(path.name)
    return found


async def test_nothing_planted_is_left_and_the_recorder_is_whole(base: Base, tenant: str) -> None:
    await planted(base, tenant)
    assert await in_redis(base, tenant, PLANTED), "it was there"
    assert in_files(base, tenant, PLANTED), "here too"
    await base.tenants.wind_up(tenant, "op", by="eve", reason="gone")
    before = await verify(base.redis, tenant, base.of(tenant).archive)
    assert before.sound, before.wrong
    done = await purge(base.redis, base.blobs, tenant, "op", by="eve", reason="asked to be forgotten")
    assert (done.missions, done.folders > 0) == (2, True)
    assert await in_redis(base, tenant, PLANTED) == []
    assert in_files(base, tenant, PLANTED) == []
    # What stays: the recorder, the mark, and what runs out by itself.
    stays = ("r:", "h:quota", "h:op:", "h:idem:", "q:w:", "g:hold:", "h:term:", "q:pulse")
    root = TenantKeys(tenant).root
    left = [name.removeprefix(root) for name in await base.redis.keys(f"{root}*")]
    assert [name for name in left if not name.startswith(stays)] == []
    after = await verify(base.redis, tenant, base.of(tenant).archive)
    assert after.sound, after.wrong
    assert after.events == before.events + 1
    *_, (_, last) = await history.read(base, tenant)
    assert (last.kind, last.by, last.details["reason"]) == ("tenant.purged", "eve", "asked to be forgotten")


async def test_it_is_done_once_and_finds_nothing_the_second_time(base: Base, tenant: str) -> None:
    await planted(base, tenant)
    await base.tenants.wind_up(tenant, "op", by="eve", reason="gone")
    await purge(base.redis, base.blobs, tenant, "op", by="eve", reason="gone")
    again = await purge(base.redis, base.blobs, tenant, "op", by="eve", reason="gone")
    assert (again.folders, again.missions) == (0, 0)
    kinds = [event.kind for _, event in await history.read(base, tenant)]
    assert kinds.count("tenant.purged") == 1


async def test_a_tenant_that_is_not_removed_is_left_alone(base: Base, tenant: str) -> None:
    await planted(base, tenant)
    before = await in_redis(base, tenant, PLANTED), in_files(base, tenant, PLANTED)
    with pytest.raises(Conflict, match="is not removed"):
        await purge(base.redis, base.blobs, tenant, "op", by="eve", reason="gone")
    await base.tenants.suspend(tenant, "op", by="eve", reason="unpaid")
    with pytest.raises(Conflict, match="is not removed"):
        await purge(base.redis, base.blobs, tenant, "op", by="eve", reason="gone")
    assert (await in_redis(base, tenant, PLANTED), in_files(base, tenant, PLANTED)) == before


async def test_who_was_cut_short_is_followed_by_who_asks_again(base: Base, tenant: str) -> None:
    class Breaks(Blobs):
        """Removes one folder, and no more."""

        removed = 0

        async def remove_all(self, folder: str) -> None:
            self.removed += 1
            if self.removed > 1:
                raise BlobsUnavailable("the disk is away")
            await super().remove_all(folder)

    await planted(base, tenant)
    await base.tenants.wind_up(tenant, "op", by="eve", reason="gone")
    with pytest.raises(BlobsUnavailable):
        await purge(base.redis, Breaks(base.settings.blob_location), tenant, "op", by="eve", reason="gone")
    assert "tenant.purged" not in [event.kind for _, event in await history.read(base, tenant)]
    await purge(base.redis, base.blobs, tenant, "op", by="eve", reason="gone")
    assert await in_redis(base, tenant, PLANTED) == []
    assert in_files(base, tenant, PLANTED) == []
