"""The shell: what Ray sees of a worker. It runs no agents: those have a process of their own, without Ray.

It imports little, for each worker has one beside its cell (`chimera.serving.cell`).
"""

from __future__ import annotations

import asyncio
import signal
import sys

from chimera.runtime.outfit import Outfit, bare
from chimera.serving.loop import LoopThread
from chimera.serving.titles import worker_title
from chimera.serving.warden import Warden
from chimera.settings import Settings
from chimera.telemetry.logs import begin, bind, configure


class WorkerActor:
    """One worker of one tenant: what Ray sees of it. Its agents run in a process of their own.

    Its name and what `repr` gives stand on Ray's Actors page, as they are when it is made: Ray asks once. How
    many slots are in use stands in the title of its process, which that dashboard's Cluster page, and `ps`,
    read anew each time; so does whose it is, when it was a spare.

    Args:
        tenant: whose it is, or "" for a spare: that learns it later, once (see `chimera.runtime.spare`).
        slots: how many tasks it may have at once.
    """

    def __init__(self, tenant: str, worker_id: str, slots: int) -> None:
        self.tenant, self.worker_id, self.slots = tenant, worker_id, slots
        begin("worker")
        self._waits: LoopThread | None = None
        # The main thread, as long as no method is a coroutine: else Ray runs all on a loop of its own. The
        # kernel ends the cell when the thread ends that started it.
        self._warden = Warden(worker_id, node=_node(), busy=self._show)
        signal.signal(signal.SIGTERM, lambda *_: self._warden.terminate())

    def equip(self, outfit: bytes) -> str:
        """Give it what it needs to work: an `Outfit`, as JSON. Returns the tenant it serves.

        The first tenant that is named is its for good. One that is its already may have new secrets.
        """
        given = Outfit.model_validate_json(outfit)
        if self.tenant and given.tenant != self.tenant:
            return self.tenant
        settings = given.settings
        configure(settings, role="worker", stream="stdout")
        if given.tenant:
            self.tenant = given.tenant
            self._warden.give(given)
        elif self._waits is None:
            self._warden.give(bare(given))
            self._waits = LoopThread(f"spare {self.worker_id}")
            self._waits.run(_wait(self._warden, settings, self.worker_id))
        return self.tenant

    def ping(self) -> bool:
        """Whether its agents' process lives."""
        return self._warden.alive

    def _show(self, busy: int) -> None:
        """In the title of this process. Ray puts its own there after a call; the cell soon says it again."""
        if (ray := sys.modules.get("ray")) is not None:
            ray._raylet.setproctitle(worker_title(self.tenant, busy, self.slots))

    def __repr__(self) -> str:
        of = f"worker of {self.tenant}" if self.tenant else "spare"
        return f"{of}, {self.worker_id}, {self.slots} slots"


async def _wait(warden: Warden, settings: Settings, worker_id: str) -> None:
    """A spare's wait: once its agents are imported it says so, and hears whose it is, or is to end."""
    bind(worker=worker_id)
    await asyncio.to_thread(warden.ready.wait)
    # Whoever is no spare needs no Redis here: it is in the cell.
    from chimera.runtime import spare  # noqa: PLC0415 (as said above)

    if await spare.wait(settings, worker_id) is None:
        warden.terminate()


def _node() -> str:
    """The id of the Ray node that this process is on; "" where Ray did not start it."""
    # What Ray starts has imported it; what it did not start need not pay for that.
    ray = sys.modules.get("ray")
    return str(ray.get_runtime_context().get_node_id()) if ray and ray.is_initialized() else ""
