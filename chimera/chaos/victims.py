"""Finding whom to harm: processes of one fleet, and never one that is not the fleet's."""

from __future__ import annotations

import asyncio

import psutil

from chimera.serving.local import remains
from chimera.serving.local.process import ProcessId
from chimera.serving.local.state import Fleet, StateDir
from chimera.serving.titles import PARTS, is_worker
from chimera.settings import Settings
from chimera.store.connection import connect
from chimera.store.elections import Election
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore


class Victims:
    """The processes of one local fleet.

    Args:
        settings: with the fleet's Redis.
    """

    def __init__(self, settings: Settings, state: StateDir) -> None:
        self._settings, self._state = settings, state

    async def worker(self, chance: float) -> tuple[str, str, ProcessId]:
        """(tenant, name, process) of a worker with work in hand: the same for the same chance and workers.

        Raises:
            LookupError: none has work.
        """
        redis = connect(self._settings)
        try:
            found = []
            for tenant in await TenantStore(redis).names():
                workers = await TaskStore(redis, tenant).workers()
                found += [
                    (tenant, name, int(said["pid"]))
                    for name, said in workers.items()
                    if said.get("busy", "0") > "0"
                ]
        finally:
            await redis.aclose()
        if not found:
            raise LookupError("no worker has work")
        tenant, name, pid = sorted(found)[int(chance * len(found))]
        process = ProcessId.of(pid)
        if process is None or not is_worker(pid):
            raise LookupError(f"worker {name} is gone")
        return tenant, name, process

    async def leader(self) -> ProcessId:
        """The orchestrator's replica that leads.

        Raises:
            LookupError: none of this fleet does.
        """
        redis = connect(self._settings)
        try:
            leads = await Election(redis, "orchestrator").leader()
        finally:
            await redis.aclose()
        for process in await asyncio.to_thread(self.parts, "orchestrator"):
            if leads and leads.startswith(f"orchestrator-{process.pid}-"):
                return process
        raise LookupError(f"no orchestrator of this fleet leads now, but {leads or 'nobody'}")

    def parts(self, name: str) -> list[ProcessId]:
        """The judges, orchestrators, gateways or governors that run now.

        Raises:
            LookupError: none does.
        """
        found = [
            process
            for process in remains.find(self._state)
            if " ".join(process.command_line()).startswith(PARTS[name])
        ]
        if not found:
            raise LookupError(f"no {name} runs now")
        return found

    def child(self, name: str) -> ProcessId:
        """The supervisor's child of this name: redis, ray, node-1 …

        Raises:
            LookupError: it does not live.
        """
        process = self.fleet.processes.get(name)
        if process is None or not process.is_alive():
            raise LookupError(f"{name} is not there now")
        return process

    def node(self, chance: float) -> tuple[str, list[ProcessId]]:
        """A Ray node beside the head, with everything that runs on it.

        Raises:
            LookupError: there is none.
        """
        names = sorted(name for name in self.fleet.processes if name.startswith("node-"))
        if not names:
            raise LookupError("the fleet has no node beside its head (CHIMERA_NODES)")
        name = names[int(chance * len(names))]
        return name, tree(self.child(name))

    @property
    def fleet(self) -> Fleet:
        """The fleet's record.

        Raises:
            LookupError: it is gone.
        """
        found = self._state.read()
        if found is None:
            raise LookupError("the fleet is gone")
        return found

    def environment(self) -> dict[str, str]:
        """What the hub's processes were given.

        Raises:
            LookupError: Ray's head does not live.
        """
        environ = psutil.Process(self.child("ray").pid).environ()
        if not environ:
            raise LookupError("ray is not there now")
        return environ


def tree(process: ProcessId) -> list[ProcessId]:
    """It and all that descend from it."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process, *filter(None, (ProcessId.of(one.pid) for one in below))]
