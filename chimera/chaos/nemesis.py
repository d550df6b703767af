"""The nemesis: does to a local fleet what a schedule says, and writes down what it did."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import httpx

from chimera.chaos.faults import Fault, Planned
from chimera.chaos.journal import Journal
from chimera.errors import StoreError
from chimera.serving.local import remains
from chimera.serving.local.process import ProcessId
from chimera.serving.local.state import StateDir
from chimera.settings import Settings
from chimera.store.connection import connect, translated
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore

PROCESSES = {
    "judge": "ray::ServeReplica:chimera:Judge",
    "orchestrator": "ray::ServeReplica:chimera:Orchestrator",
    "gateway": "ray::ServeReplica:chimera:Gateway",
    "governor": "ray::GovernorActor",
}
"""How the hub's processes call themselves."""


class Nemesis:
    """Harms one fleet, and never a process that is not the fleet's.

    Args:
        settings: with the fleet's Redis.
        endpoint: the metered model's address.
        told: hears of each fault in words.
    """

    def __init__(
        self,
        settings: Settings,
        state: StateDir,
        endpoint: str,
        journal: Journal,
        told: Callable[[str], None],
    ) -> None:
        self._settings, self._state, self._endpoint = settings, state, endpoint
        self._journal, self._told = journal, told
        self._stopped: set[ProcessId] = set()

    async def run(self, plan: tuple[Planned, ...]) -> None:
        """Do each fault in its time, beside the others. Whatever is stopped is woken at the end."""
        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                for planned in plan:
                    await asyncio.sleep(max(0.0, began + planned.at_s - time.monotonic()))
                    group.create_task(self._do(planned))
        finally:
            for process in self._stopped:
                process.send(signal.SIGCONT)

    async def _do(self, planned: Planned) -> None:
        tenant = target = ""
        at = time.time()
        try:
            match planned.fault:
                case Fault.WORKER_KILL | Fault.WORKER_STOP:
                    tenant, target, process = await self._worker(planned.chance)
                    at = time.time()
                    await self._signal(planned, process)
                case Fault.REDIS_KILL | Fault.REDIS_STOP | Fault.HEAD_KILL:
                    target = "ray" if planned.fault is Fault.HEAD_KILL else "redis"
                    fleet = self._state.read()
                    await self._signal(planned, fleet.processes.get(target) if fleet else None)
                case Fault.SCRIPT_FLUSH:
                    await self._flush()
                case Fault.MODEL_REFUSES | Fault.MODEL_HANGS:
                    await self._misbehave(planned)
                case _:
                    target = planned.fault.partition("-")[0]
                    await self._signal(planned, await asyncio.to_thread(self._replica, target))
        except (LookupError, StoreError, OSError, httpx.HTTPError) as exc:
            self._journal.write(
                fault="missed", target=f"{planned.fault}: {exc}", tenant="", until=time.time()
            )
            self._told(f"{planned.fault}: nothing to harm ({exc})")
            return
        self._journal.write(fault=planned.fault, target=target, tenant=tenant, began=at, until=time.time())
        self._told(f"{planned.fault}{f' of {target}' if target else ''}")

    async def _signal(self, planned: Planned, process: ProcessId | None) -> None:
        if process is None:
            raise LookupError("it is not there now")
        if not planned.lasts_s:
            process.send(signal.SIGKILL)
            return
        self._stopped.add(process)
        process.send(signal.SIGSTOP)
        await asyncio.sleep(planned.lasts_s)
        process.send(signal.SIGCONT)
        self._stopped.discard(process)

    async def _worker(self, chance: float) -> tuple[str, str, ProcessId]:
        """A worker with work in hand, the same for the same chance among the same workers."""
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
        if process is None or not process.command_line()[0].startswith("ray::WorkerActor"):
            raise LookupError(f"worker {name} is gone")
        return tenant, name, process

    def _replica(self, name: str) -> ProcessId:
        for process in remains.find(self._state):
            if " ".join(process.command_line()).startswith(PROCESSES[name]):
                return process
        raise LookupError(f"no {name} runs now")

    async def _flush(self) -> None:
        redis = connect(self._settings)
        try:
            with translated():
                await redis.script_flush()
        finally:
            await redis.aclose()

    async def _misbehave(self, planned: Planned) -> None:
        kind = "refuse" if planned.fault is Fault.MODEL_REFUSES else "hang"
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            await client.post(f"{self._endpoint}/misbehave", json={"kind": kind, "for_s": planned.lasts_s})
        await asyncio.sleep(planned.lasts_s)
