"""Pruning: finished missions found by the age of their end, marked, and removed once they are archived.

A mission that is marked can still be changed; that takes the mark off. Whoever archives it reads it under a
mark, and names that mark when pruning it: so what is removed is what was written.
"""

from __future__ import annotations

from dataclasses import dataclass

from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Refusal, Scripts, under_term

BATCH = 200
"""Tasks and actions that one script call removes."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A mission's mark.

    Attributes:
        at_us: since when it stands unchanged. It tells marks apart.
        archived: its dossier is written, and it is pruned in part.
    """

    at_us: int
    archived: bool


class Pruning:
    """One tenant's finished missions on their way out of Redis."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)

    async def finished(self, *, age_s: float, skip: int = 0, most: int = 50) -> list[tuple[str, int]]:
        """Missions that ended at least so long ago, and when (µs): the one that ended first comes first."""
        with translated():
            seconds, micros = await self._redis.time()
            until = int(seconds) * 1_000_000 + int(micros) - round(age_s * 1e6)
            found = await self._redis.zrangebyscore(
                self.keys.finished, "-inf", until, start=skip, num=most, withscores=True
            )
            return [(mission_id, int(ended_us)) for mission_id, ended_us in found]

    async def count(self) -> int:
        """How many finished missions there are."""
        with translated():
            return int(await self._redis.zcard(self.keys.finished))

    async def mark(self, mission_id: str, *, age_s: float, term: int) -> Mark | None:
        """Mark one that ended at least so long ago. The same mark again while nothing changes it.

        None: it is not over, it is too young, money is held for it, an action is still to be carried out, or
        it is not here.

        Raises:
            OldTerm: a newer leader acts; so with `prune`.
        """
        answer = under_term(
            await self._scripts.run("mark_mission", [self.keys.root], mission_id, term, round(age_s * 1e6))
        )
        return Mark(int(answer[1]), answer[0] == 2) if answer[0] > 0 else None

    async def prune(
        self, mission_id: str, mark: Mark, *, sha256: str = "", term: int, by: str, most: int | None = None
    ) -> int | None:
        """Remove a batch of what was archived under a mark. Returns what is left to remove, 0 at the end.

        Args:
            sha256: of its dossier's lines, for the recorder; asked for once, with the first batch.
            most: tasks and actions; `BATCH` unless said.

        None: it changed since it was marked, and all of it is there.
        """
        answer = await self._scripts.run(
            "prune_mission", [self.keys.root], mission_id, term, mark.at_us, most or BATCH, by, sha256
        )
        return None if under_term(answer) == Refusal.LOST else int(answer)
