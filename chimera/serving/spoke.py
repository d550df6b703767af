"""A spoke's process: a driver of the Ray cluster that it is on, until it is told to end.

Ray reads from the environment which cluster that is (``RAY_ADDRESS``, else the one on this machine) and what
lets it in (``RAY_AUTH_MODE``, ``RAY_AUTH_TOKEN_PATH``). Workers are detached actors: they outlive this
process, and the next one finds them by their names.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from typing import NoReturn

import ray
import structlog

from chimera.errors import ChimeraError, ConfigurationError
from chimera.runtime.service import Service, backoff_s, see_that_all_are_well
from chimera.runtime.spoke import SpokeController, SpokeElector, open_spoke, tenant_of
from chimera.serving.backend import NAMESPACE, RayBackend
from chimera.serving.heap import freeze
from chimera.settings import Settings
from chimera.store import keys
from chimera.store.connection import end
from chimera.store.signals import Wakeups
from chimera.store.spokes import SwarmElection
from chimera.telemetry.logs import bind, configure

log = structlog.get_logger(__name__)

LOOK_S = 5.0
"""It sees this often that all of it is well."""


def run(settings: Settings) -> NoReturn:
    """Be a spoke until SIGTERM or SIGINT; then workers drain, the lead is given up, and it ends with 0.

    It ends with 1 where one of its services has ended or hangs, or the store is away at its end.

    Raises:
        ConfigurationError: the environment makes no spoke; nothing was started.
    """
    tenant = tenant_of(settings)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file is a copy of all secrets
    configure(settings, role="spoke", stream="stdout")
    bind(tenant=tenant)
    with asyncio.Runner() as runner:
        try:
            runner.run(_main(settings, tenant))
            code = 0
        except ConfigurationError:
            raise
        except ChimeraError as exc:
            log.error("spoke.failed", error=str(exc))
            code = 1
        _leave(code)


async def _main(settings: Settings, tenant: str) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(_start(settings, tenant, stack), name="start")
        told = asyncio.create_task(ending.wait(), name="told to end")
        try:
            await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(told)
        if starting.done():
            elector, controller = starting.result()
            log.info("spoke.ready", places=settings.max_workers, slots=settings.slots)
            await _stay(ending, (elector, controller))
            log.info("spoke.leaving", grace_s=settings.spoke_grace_s)
            await controller.leave(settings.spoke_grace_s)
        else:
            await end(starting)
    log.info("spoke.ended")


async def _start(
    settings: Settings, tenant: str, stack: AsyncExitStack
) -> tuple[SpokeElector, SpokeController]:
    base = await open_spoke(settings, tenant)
    stack.push_async_callback(base.close)
    await _join()
    replica = f"spoke-{os.getpid()}-{os.urandom(3).hex()}"
    bind(worker=replica)
    elector = SpokeElector(SwarmElection(base.redis, tenant, socket.gethostname()), tenant, replica)
    wakeups = await stack.enter_async_context(Wakeups(base.blocking, keys.LOAD, tenant))
    controller = SpokeController(base, elector, RayBackend(settings), wakeups, tenant)
    for service in (elector, controller):
        service.start()
        stack.push_async_callback(service.stop)
    freeze()
    return elector, controller


async def _join() -> None:
    """Connect to the cluster, as soon as there is one."""
    failures = 0
    while True:
        try:
            await asyncio.to_thread(
                ray.init, address="auto", namespace=NAMESPACE, log_to_driver=False, configure_logging=False
            )
        except (ConnectionError, OSError, RuntimeError, ValueError) as exc:
            failures += 1
            log.warning(
                "spoke.waiting",
                error=str(exc),
                message="no Ray cluster takes this spoke in, and it tries again: see that the head runs, "
                "that RAY_ADDRESS names it, and that RAY_AUTH_TOKEN_PATH holds its token",
            )
            await asyncio.sleep(backoff_s(failures, most_s=5.0))
        else:
            return


async def _stay(ending: asyncio.Event, services: tuple[Service, ...]) -> None:
    """Until it is told to end. Raises BackendError: a service has ended, or hangs."""
    while not ending.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await ending.wait()
        see_that_all_are_well(services)


def _leave(code: int) -> NoReturn:
    """End this process, whatever Ray's threads wait for: its cluster may be gone."""
    sys.stdout.flush()
    os._exit(code)
