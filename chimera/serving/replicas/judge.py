"""The judge, as a deployment."""

from __future__ import annotations

from chimera.judging.boundaries import load_boundaries
from chimera.runtime.elector import Elector
from chimera.runtime.judge import Judge as JudgeService
from chimera.serving.replicas.replica import Replica
from chimera.store import keys


class Judge(Replica):
    """Judges results."""

    role = "judge"

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        Replica.__init__(self)
        await self.open()
        boundaries = load_boundaries(self.settings.boundaries_file)
        await self.run(
            # Judges share the work; that one of them holds this lead tells that there is one.
            Elector(self.base.election("judge"), self.replica_id),
            JudgeService(self.base, self.replica_id, await self.wakeups(keys.REVIEWS), boundaries),
        )
