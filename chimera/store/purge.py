"""Deleting what a removed tenant left: its content, and all of Redis that is no part of its flight recorder.

What stays is the recorder, in the blob store and in Redis, so that its chain can still be followed: it has
sizes and hashes of payloads, and the free text that docs/recorder.md lists. Whoever dies amid it is followed
by whoever asks again: each step finds what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from chimera.errors import Conflict
from chimera.store.audit import Audit
from chimera.store.blobs import Blobs
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.removed import Removed
from chimera.store.scripts import Refusal, Scripts

RECORDER = "recorder"
"""The folder of a tenant's that stays."""
BATCH = 500
"""Tasks and actions that one call deletes."""
LOOK = "-"
"""No mission's id: nothing is deleted for it."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted by this call; nothing of it when all was gone before.

    Attributes:
        folders: of the blob store: missions, uploads, dossiers.
        missions: that were still in Redis.
    """

    folders: int
    missions: int


async def purge(redis: Redis, blobs: Blobs, tenant: str, operation: str, *, by: str, reason: str) -> Purged:
    """Delete it. Idempotent; the act is recorded once for an operation, when all is gone.

    Raises:
        Conflict: the tenant is not removed: nothing was deleted.
        BlobsUnavailable: the blob store cannot be changed; ask again.
    """
    scripts, keys = Scripts(redis), TenantKeys(tenant)
    await _delete(scripts, keys, LOOK, 0)  # refuses a tenant that is not removed, before any file goes
    folders = [name for name in await blobs.names(tenant) if name != RECORDER]
    for name in folders:
        await blobs.remove_all(f"{tenant}/{name}")
    missions = 0
    with translated():
        found = await redis.zrange(keys.missions, 0, -1)
    for mission_id in found:
        while await _delete(scripts, keys, mission_id, BATCH):
            pass
        missions += 1
    await _delete(scripts, keys, "", 0)
    await Audit(redis).note(
        tenant,
        "tenant.purged",
        f"purge {operation}",
        by=by,
        reason=reason,
        folders=len(folders),
        missions=missions,
    )
    await Removed(redis).note(tenant, f"purge {operation}")
    return Purged(len(folders), missions)


async def _delete(scripts: Scripts, keys: TenantKeys, mission_id: str, most: int) -> int:
    left = await scripts.run("purge_tenant", [keys.root], mission_id, most)
    if left == Refusal.LOST:
        raise Conflict(
            f"tenant {keys.tenant!r} is not removed: `chimera tenant remove {keys.tenant} --purge` does that "
            "first"
        )
    return int(left)
