"""The nemesis: does to a local fleet what a schedule says, and writes down what it did."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from chimera.chaos import hub, outages
from chimera.chaos.faults import Fault, Planned
from chimera.chaos.journal import Journal
from chimera.chaos.victims import Victims, tree
from chimera.errors import StoreError
from chimera.serving.local.process import ProcessId
from chimera.serving.local.state import StateDir
from chimera.settings import Settings

HUB_READY_S, DEPLOY_S = 30.0, 120.0
TRIES, AGAIN_S = 4, 3.0
DEPOSED_S = 6.0
"""How long the first hub's leaders sleep while the second one takes over."""
MISSES = (LookupError, StoreError, OSError, TimeoutError, httpx.HTTPError, psutil.Error)
"""What keeps a fault from being done: its victim is not there just now."""


@dataclass(frozen=True, slots=True)
class Struck:
    """Whom a fault has met, and when (UNIX seconds; 0: when it was begun)."""

    tenant: str = ""
    target: str = ""
    at: float = 0.0


class Nemesis:
    """Harms one fleet, and never a process that is not the fleet's.

    Args:
        settings: with the fleet's Redis.
        endpoint: the metered model's address.
        directory: where the logs of what it starts go.
        told: hears of each fault in words.
    """

    def __init__(
        self,
        settings: Settings,
        state: StateDir,
        endpoint: str,
        directory: Path,
        journal: Journal,
        told: Callable[[str], None],
    ) -> None:
        self._settings, self._endpoint, self._directory = settings, endpoint, directory
        self._journal, self._told = journal, told
        self._victims = Victims(settings, state)
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
        for tries in range(1, TRIES + 1):
            at = time.time()
            try:
                struck = await self._harms().get(planned.fault, self._part)(planned) or Struck()
            except MISSES as exc:
                if tries < TRIES:
                    await asyncio.sleep(AGAIN_S)  # its victim is being brought back
                    continue
                self._wrote("missed", f"{planned.fault}: {exc}", "", at)
                self._told(f"{planned.fault}: nothing to harm ({exc})")
            else:
                self._wrote(planned.fault, struck.target, struck.tenant, struck.at or at)
                self._told(f"{planned.fault}{f' of {struck.target}' if struck.target else ''}")
            return

    def _wrote(self, fault: str, target: str, tenant: str, began: float) -> None:
        self._journal.write(fault=fault, target=target, tenant=tenant, began=began, until=time.time())

    def _harms(self) -> dict[Fault, Callable[[Planned], Awaitable[Struck | None]]]:
        """How each fault is done; those that are not here strike the part of the hub they are named after."""
        settings = self._settings
        return {
            Fault.WORKER_KILL: self._worker,
            Fault.WORKER_STOP: self._worker,
            Fault.WORKER_AND_LEADER_KILL: self._worker,
            Fault.REDIS_KILL: lambda fault: self._redis(fault.lasts_s),
            Fault.REDIS_STOP: lambda fault: self._redis(fault.lasts_s),
            Fault.REDIS_SLOW: lambda fault: outages.slow(settings, fault.lasts_s, fault.chance),
            Fault.REDIS_CUT: lambda _: outages.cut(settings),
            Fault.REDIS_READ_ONLY: lambda fault: outages.read_only(settings, fault.lasts_s),
            Fault.REDIS_FULL: lambda fault: outages.full(settings, fault.lasts_s),
            Fault.SCRIPT_FLUSH: lambda _: outages.flush(settings),
            Fault.MODEL_REFUSES: lambda fault: self._model("refuse", fault.lasts_s),
            Fault.MODEL_HANGS: lambda fault: self._model("hang", fault.lasts_s),
            Fault.SECOND_HUB: lambda fault: self._second_hub(fault.lasts_s),
            Fault.NODE_KILL: self._node,
            Fault.HEAD_KILL: self._head,
            Fault.REDEPLOY: self._redeploy,
        }

    async def _worker(self, planned: Planned) -> Struck:
        leader = []
        if planned.fault is Fault.WORKER_AND_LEADER_KILL:
            leader = [await self._victims.leader()]
        tenant, name, process = await self._victims.worker(planned.chance)
        at = time.time()
        await self._signal([process, *leader], planned.lasts_s)
        return Struck(tenant, name, at)

    async def _part(self, planned: Planned) -> None:
        name = planned.fault.partition("-")[0]
        if name == "orchestrator":
            part = await self._victims.leader()
        else:
            part, *_ = await asyncio.to_thread(self._victims.parts, name)
        await self._signal([part], planned.lasts_s)

    async def _redis(self, lasts_s: float) -> None:
        await self._signal([self._victims.child("redis")], lasts_s)

    async def _node(self, planned: Planned) -> Struck:
        name, processes = await asyncio.to_thread(self._victims.node, planned.chance)
        await self._signal(processes, 0.0)
        return Struck(target=name)

    async def _head(self, _: Planned) -> None:
        await self._signal(await asyncio.to_thread(lambda: tree(self._victims.child("ray"))), 0.0)

    async def _signal(self, processes: Iterable[ProcessId], lasts_s: float) -> None:
        """SIGKILL; or SIGSTOP, and SIGCONT when the time is over."""
        processes = list(processes)
        if not lasts_s:
            for process in processes:
                process.send(signal.SIGKILL)
            return
        for process in processes:
            self._stopped.add(process)
            process.send(signal.SIGSTOP)
        await asyncio.sleep(lasts_s)
        for process in processes:
            process.send(signal.SIGCONT)
            self._stopped.discard(process)

    async def _model(self, kind: str, lasts_s: float) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            await client.post(f"{self._endpoint}/misbehave", json={"kind": kind, "for_s": lasts_s})
        await asyncio.sleep(lasts_s)

    async def _second_hub(self, lasts_s: float) -> None:
        """It joins, takes over while the first hub's leaders sleep, sees them wake, and leaves."""
        async with self._running("second-hub.log", "-m", "chimera.chaos.hub") as second:
            async with asyncio.timeout(HUB_READY_S):
                await _said(second, hub.READY)
            began = time.monotonic()
            leaders: list[ProcessId] = []
            for name in ("orchestrator", "governor"):
                with contextlib.suppress(LookupError):
                    leaders += await asyncio.to_thread(self._victims.parts, name)
            await self._signal(leaders, DEPOSED_S)
            await asyncio.sleep(max(0.0, began + lasts_s - time.monotonic()))

    async def _redeploy(self, _: Planned) -> None:
        arguments = ["--address", self._victims.fleet.ray_address, "--app", "chimera.serving.app:build"]
        async with (
            asyncio.timeout(DEPLOY_S),
            self._running("redeploy.log", "-m", "chimera.serving.deploy", *arguments) as deploying,
        ):
            if code := await deploying.wait():
                raise LookupError(f"deploying ended with code {code}: see redeploy.log")

    @asynccontextmanager
    async def _running(self, log: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Python in the hub's environment, until the block ends: SIGTERM, then SIGKILL."""
        environment = await asyncio.to_thread(self._victims.environment)
        with (self._directory / log).open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _said(process: asyncio.subprocess.Process, line: str) -> None:
    if process.stdout is None:
        raise LookupError("it has no stdout")
    async for said in process.stdout:
        if said.strip() == line.encode():
            return
    raise LookupError(f"it ended with code {await process.wait()} before it was ready")
