"""Reading missions wherever they are: in Redis, and once they are pruned in their dossiers.

A mission may be pruned while it is read. So whatever is read of it in Redis counts only if the mission still
stands there afterwards; else it is read again from its dossier, where the same lies in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from chimera.errors import CorruptRecord, InvalidTransition, NotFound
from chimera.store.actions import ActionRecord, ActionStore
from chimera.store.damage import apart
from chimera.store.dossiers import Dossier, Dossiers, Filed
from chimera.store.missionrecord import MissionRecord
from chimera.store.missions import MissionStore
from chimera.store.results import Batch, ResultStore
from chimera.store.tasks import TaskRecord, TaskStore

T = TypeVar("T")


class Readings:
    """One tenant's missions, to be read."""

    def __init__(
        self,
        missions: MissionStore,
        tasks: TaskStore,
        actions: ActionStore,
        results: ResultStore,
        dossiers: Dossiers,
    ) -> None:
        self.missions, self.tasks, self.actions = missions, tasks, actions
        self.results, self.dossiers = results, dossiers

    async def open(self, mission_id: str) -> Reading:
        """One mission.

        Raises:
            NotFound: there is none of that id.
            CorruptRecord, BlobsUnavailable: its dossier cannot be read.
        """
        found = await self.missions.find_many([mission_id])
        if mission_id in found and not found[mission_id].archived:
            return Reading(self, found[mission_id])
        dossier = await self.dossier(mission_id)
        return Reading(self, dossier.mission, dossier)

    async def mission(self, mission_id: str) -> MissionRecord:
        """One mission as it stands now. Raises as `open` does."""
        return (await self.open(mission_id)).mission

    async def archived(self, *, before: str = "", most: int = 50) -> list[str]:
        """Ids of missions that are no longer in Redis, the last submitted first; those before an id."""
        found: list[str] = []
        while len(found) < most and (ids := await self.dossiers.ids(before=before, most=most)):
            # One may have come back after its dossier was written: it will be written anew. One whose record
            # here cannot be read is here: it is listed, and named, among those that are.
            standing, damaged = await apart(ids, self.missions.standing)
            found += [one for one in ids if one not in standing and one not in damaged]
            before = ids[-1]
        return found[:most]

    async def find_archived(self, mission_ids: Sequence[str]) -> dict[str, MissionRecord]:
        """Those of them that have a dossier, by id, as it has them. Raises as `open` does."""
        dossiers = await asyncio.gather(*map(self.dossiers.find, mission_ids))
        return {
            one: dossier.mission
            for one, dossier in zip(mission_ids, dossiers, strict=True)
            if dossier is not None
        }

    async def dossier(self, mission_id: str) -> Dossier:
        """A mission's dossier. Raises as `open` does."""
        if (dossier := await self.dossiers.find(mission_id)) is None:
            raise NotFound(f"there is no mission {mission_id!r}")
        return dossier

    @asynccontextmanager
    async def changing(self, mission_id: str) -> AsyncIterator[None]:
        """Around what changes a mission: where it is not found for it is archived, that is said.

        Raises:
            InvalidTransition: it is archived.
        """
        try:
            yield
        except NotFound:
            if (dossier := await self.dossiers.find(mission_id)) is None:
                raise
            mission = dossier.mission
            raise InvalidTransition(
                f"mission {mission_id} ended {_day(mission.finished_at_us)} and was archived "
                f"{_day(mission.archived_at_us)}: it can be read, and not be changed any more; submit it anew"
            ) from None


class Reading:
    """One mission, being read. `mission` is what it was when it was opened."""

    def __init__(self, readings: Readings, mission: MissionRecord, dossier: Dossier | None = None) -> None:
        self._readings, self.mission, self._dossier = readings, mission, dossier

    async def tasks(self, offset: int, most: int) -> list[TaskRecord]:
        """Its tasks in the order planned."""
        readings, mission_id = self._readings, self.mission.mission_id

        async def here() -> list[TaskRecord]:
            ids = await readings.missions.task_ids(mission_id, offset=offset, most=most)
            return await readings.tasks.get_many(ids)

        async def there(dossier: Dossier) -> list[TaskRecord]:
            return [task for task, _ in await dossier.filed(offset, most)]

        return await self._read(here, there)

    async def actions(self, offset: int, most: int) -> list[ActionRecord]:
        """Actions of its accepted results, in the order accepted; of an archived one in that of its tasks."""
        readings, mission_id = self._readings, self.mission.mission_id

        async def here() -> list[ActionRecord]:
            ids = await readings.actions.ids(mission_id, offset=offset, most=most)
            return await readings.actions.get_many(ids)

        return await self._read(here, lambda dossier: dossier.actions(offset, most))

    async def task(self, task_id: str) -> Filed:
        """One of its tasks, with the actions of its result.

        Raises:
            NotFound: it has none of that id.
        """

        async def here() -> Filed:
            task = await self._readings.tasks.get(task_id)
            return task, await self._readings.actions.of_task(task_id, task.actions)

        return await self._read(here, lambda dossier: dossier.task(task_id))

    async def named(self, task_ids: Sequence[str]) -> list[TaskRecord]:
        """Tasks of it, in the order asked.

        Raises:
            NotFound: it has none of one of these ids.
        """

        async def there(dossier: Dossier) -> list[TaskRecord]:
            return [(await dossier.task(one))[0] for one in task_ids]

        return await self._read(lambda: self._readings.tasks.get_many(task_ids), there)

    async def results(self, task_ids: Sequence[str]) -> dict[str, Any]:
        """Accepted results of its tasks by id, in the order asked; those not accepted are left out."""

        async def there(dossier: Dossier) -> dict[str, Any]:
            filed = [(await dossier.task(one))[0] for one in task_ids]
            return {task.task_id: task.result for task in filed if task.status == "ACCEPTED"}

        return await self._read(lambda: self._readings.tasks.results(task_ids), there)

    async def accepted(self, offset: int) -> Batch:
        """Some of its accepted results in the order planned, from a task's position on: few or many, by size.

        Raises:
            CorruptRecord: one of them cannot be read.
        """

        async def here() -> Batch:
            batch = await self._readings.results.read(self.mission.mission_id, offset)
            if batch is None:
                raise NotFound(f"mission {self.mission.mission_id} is pruned")
            return batch

        return await self._read(here, lambda dossier: dossier.accepted(offset))

    async def _read(self, here: Callable[[], Awaitable[T]], there: Callable[[Dossier], Awaitable[T]]) -> T:
        if self._dossier is None:
            mission_id = self.mission.mission_id
            missing: NotFound | CorruptRecord | None = None
            try:
                found = await here()
            except (NotFound, CorruptRecord) as exc:  # pruned meanwhile, or what it says
                missing = exc
            if await self._readings.missions.stands(mission_id):
                if missing is not None:
                    raise missing
                return found
            self._dossier = await self._readings.dossier(mission_id)
        return await there(self._dossier)


def _day(us: int) -> str:
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%MZ}"
