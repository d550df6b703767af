"""Watching a mission: its state, its results as they are accepted, the workers, until it stands still."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from chimera.cli.progress import Failure, failures
from chimera.core.mission import MISSION_FINAL
from chimera.core.task import TaskStatus
from chimera.errors import BackendError, StoreError

if TYPE_CHECKING:
    from chimera.cli.progress import Progress
    from chimera.client import Client
    from chimera.core.views import FleetView, MissionView

FLEET_EVERY_S = 1.0
FAILURES = 200
"""Failed tasks that are asked why."""
RESULTS_SHARE = 5.0
"""Between two readings of the results lies this many times as long as the last one took."""


class Watch:
    """One watch of one mission.

    Args:
        progress: what is told.
        show_results: whether accepted results are fetched and told.
    """

    def __init__(
        self,
        client: Client,
        mission_id: str,
        progress: Progress,
        *,
        show_results: bool = True,
    ) -> None:
        self._client, self.mission_id, self._progress = client, mission_id, progress
        self._show_results = show_results
        self._fleet: FleetView | None = None
        self._told = 0
        self._behind = 0
        """Every result of the tasks before this position was told."""
        self._ahead: set[int] = set()
        """Positions, beyond it, whose results were told."""
        self._read_again_at = 0.0
        self.over = False
        """Whether the mission has ended, though not all of its results may be told."""
        self.first_result_at: float | None = None
        """When the first accepted result was told (monotonic)."""

    async def run(self) -> MissionView:
        """Watch until the mission is final or waits for a human.

        Raises:
            NotFound: there is no such mission.
        """
        looking = asyncio.create_task(self._look_at_fleet(), name="look at the fleet")
        try:
            with self._progress as progress:
                mission = await self._follow()
                await self._tell_results(mission, last=True)
                progress.ended(mission, await self._failures(mission))
                return mission
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _follow(self) -> MissionView:
        stream = self._client.watch(self.mission_id)
        async with aclosing(stream):
            async for mission in stream:
                self.over = mission.status in MISSION_FINAL
                self._progress.moved(mission, self._fleet)
                await self._tell_results(mission)
        return mission

    async def _tell_results(self, mission: MissionView, *, last: bool = False) -> None:
        began = time.monotonic()
        new = self._show_results and mission.accepted > self._told
        if not new or (began < self._read_again_at and not last):
            return
        # Results that follow on one another need not be asked for again, nor remembered: a watch of a large
        # mission stays small as long as no task of it fails.
        async with aclosing(self._client.results(self.mission_id, after=str(self._behind))) as results:
            async for result in results:
                if self._is_new(int(result.next) - 1):
                    self._told += 1
                    self.first_result_at = self.first_result_at or time.monotonic()
                    self._progress.accepted(result, mission)
        now = time.monotonic()
        self._read_again_at = now + RESULTS_SHARE * (now - began)

    def _is_new(self, position: int) -> bool:
        new = position not in self._ahead
        if position == self._behind:
            self._behind += 1
            self._ahead.discard(position)
        else:
            self._ahead.add(position)
        return new

    async def _failures(self, mission: MissionView) -> list[Failure]:
        """Why tasks failed; of very many, the first ones."""
        if not mission.failed:
            return []
        most = min(mission.failed, FAILURES)
        return failures(await self._client.tasks(self.mission_id, status=TaskStatus.FAILED, limit=most))

    async def _look_at_fleet(self) -> None:
        """The workers are beside the point of a watch: when they cannot be seen, it goes on."""
        while True:
            with suppress(BackendError, StoreError):
                self._fleet = await self._client.fleet()
            await asyncio.sleep(FLEET_EVERY_S)
