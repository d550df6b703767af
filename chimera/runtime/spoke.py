"""A spoke: keeps one tenant's workers on a Ray cluster of that tenant's own, with its login alone.

It is to its tenant what the fleet controller is to the hub, and takes the same decision. The hub needs no
way to it: all that the two know of each other stands in Redis. One spoke of a tenant leads, under a term;
another waits for its lease to end. The leader sends away whatever works for the tenant elsewhere: on the
cluster of a spoke that led before, or on the hub's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

import structlog

from chimera.errors import ConfigurationError, StoreError
from chimera.runtime.backend import Backend
from chimera.runtime.base import Base, base_of
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service, backoff_s
from chimera.runtime.staffing import STARTING_S, Staffing
from chimera.settings import Settings
from chimera.store.connection import check_layout, url
from chimera.store.signals import Wakeups
from chimera.store.spokes import SwarmElection
from chimera.store.users import login_of, user_of

log = structlog.get_logger(__name__)

SAY_AGAIN_S = 60.0
"""That it waits for the operator is said this often."""
LOOK_S = 0.2
END_S = 5.0
"""So long Ray may take to answer a spoke that ends."""
HAND_BACK = 0.75
"""After this share of its grace a spoke that ends has its workers hand back what is not of high priority."""


def tenant_of(settings: Settings) -> str:
    """Whose spoke these settings make.

    Raises:
        ConfigurationError: nobody's, or with a login that is not that of its spoke.
    """
    tenant = settings.spoke_tenant
    if not tenant:
        raise ConfigurationError("say whose spoke this is: set CHIMERA_SPOKE_TENANT to the tenant's name")
    prints = f"`chimera tenant login {tenant}`, run by the operator, prints it"
    try:
        url(settings)
    except ConfigurationError as exc:
        raise ConfigurationError(
            f"a spoke needs the hub's Redis: set CHIMERA_REDIS_URL_FILE to a file with its URL; {prints}"
        ) from exc
    user, password = login_of(settings)
    if user != user_of("spoke", tenant):
        raise ConfigurationError(
            f"the spoke of {tenant} logs in to Redis as {user_of('spoke', tenant)}, and CHIMERA_REDIS_URL "
            f"says {user or 'no user'}: put the URL there that is meant for it; {prints}"
        )
    if not password:
        raise ConfigurationError(
            f"CHIMERA_REDIS_URL has no password for {user}: take the whole URL; {prints}"
        )
    return tenant


async def open_spoke(settings: Settings, tenant: str) -> Base:
    """Connect, as soon as Redis is there and lets the tenant's spoke in; what it waits for is said.

    Raises:
        ConfigurationError: what is in Redis is laid out by another version.
    """
    base, failures, said_at = base_of(settings), 0, float("-inf")
    try:
        while True:
            try:
                await check_layout(base.redis)
                return base
            except StoreError as exc:
                failures += 1
                if time.monotonic() - said_at > SAY_AGAIN_S:
                    said_at = time.monotonic()
                    log.warning(
                        "spoke.waiting",
                        error=str(exc),
                        message="the spoke tries again. A tenant that was removed has no login; of another "
                        f"`chimera tenant login {tenant}`, run by the operator, prints the URL",
                    )
                await asyncio.sleep(backoff_s(failures, most_s=5.0))
    except BaseException:
        await base.close()
        raise


class SpokeElector(Elector):
    """Keeps or takes the lead of the tenant's swarm, and says when the tenant is to have no spoke at all."""

    def __init__(self, election: SwarmElection, tenant: str, replica: str) -> None:
        super().__init__(election, replica)
        self.swarm = election
        self._tenant = tenant
        self._said_at = float("-inf")

    async def run_once(self) -> None:
        await super().run_once()
        if not self.swarm.refused:
            self._said_at = float("-inf")
        elif time.monotonic() - self._said_at > SAY_AGAIN_S:
            self._said_at = time.monotonic()
            log.warning(
                "spoke.unasked",
                message=f"the hub keeps the workers of {self._tenant}, so this spoke waits: the operator "
                f"changes that with `chimera tenant set {self._tenant} --spoke`",
            )


class SpokeController(Service):
    """One pass: what exists here, and what works elsewhere → as many workers as are wanted, here."""

    name = "spoke"
    sweep_s = 0.5

    def __init__(
        self, base: Base, elector: SpokeElector, backend: Backend, wakeups: Wakeups, tenant: str
    ) -> None:
        super().__init__()
        self.tenant = tenant
        self._base = base
        self._elector = elector
        self._backend = backend
        self._wakeups = wakeups
        self._tasks = base.of(tenant).tasks
        self._staffing = Staffing(base, elector, backend, "spoke", Bulkhead(self.name))
        self._mine: set[str] = set()
        self._sent_away: dict[str, float] = {}
        """Workers that were told to leave, and when."""

    async def wait(self) -> None:
        await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        leads = self._elector.term is not None
        if not leads and not self._elector.swarm.refused:
            return  # the leader sees to these workers, too
        listed = await self._list()
        if leads:
            await self._keep(listed)
        else:
            await self._send_away(self._mine, "the hub keeps its tenant's workers")
            await self._end_deaf(time.monotonic())

    async def _list(self) -> dict[str, str]:
        listed = await self._backend.list()
        own = {worker: owner for worker, owner in listed.items() if owner == self.tenant}
        self._mine = set(own)
        return own

    async def _keep(self, listed: Mapping[str, str]) -> None:
        await self._backend.equip(listed)
        records = await self._base.tenants.records([self.tenant])
        swarms = await self._staffing.keep([self.tenant], records, listed, time.monotonic())
        elsewhere = swarms[self.tenant].beats.keys() - self._mine if swarms else set()
        await self._send_away(elsewhere, "its tenant's workers are kept by a spoke on another cluster")

    async def _send_away(self, workers: Collection[str], reason: str) -> None:
        self._sent_away = {worker: at for worker, at in self._sent_away.items() if worker in workers}
        for worker in sorted(set(workers) - self._sent_away.keys()):
            log.info("worker.draining", worker=worker, reason=reason)
            await self._drain(worker, self._base.settings.preempt_s, reason)
            self._sent_away[worker] = time.monotonic()

    async def _end_deaf(self, now: float) -> None:
        """End those that were sent away and stay: they never came up, or hang, and hold a pod of the quota.

        One that beats has heard it: it may end what is of high priority, for as long as `drain_s`.
        """
        settings, beats = self._base.settings, await self._tasks.workers()
        for worker in sorted(self._mine):
            patience_s = (settings.drain_s if worker in beats else settings.preempt_s) + STARTING_S
            if now - self._sent_away[worker] > patience_s:
                log.warning("worker.ended_late", worker=worker)
                await self._backend.end(self.tenant, worker, await self._tasks.process(worker))
                await self._tasks.release(worker, self._elector.replica, died=False)
                self._sent_away[worker] = now  # should it be there yet: not with every pass

    async def _drain(self, worker: str, within_s: float, reason: str) -> None:
        await self._tasks.drain(worker, within_s=within_s, by=self._elector.replica, reason=reason)

    async def leave(self, within_s: float) -> None:
        """End for good: workers drain, and are ended where that takes longer. The lead is kept meanwhile.

        The cluster may be ending, too: what Ray does not answer in time is left to it.

        Raises:
            StoreError: the store is away; leases that nobody renews are rescued by the hub.
        """
        await self.stop()
        if self._elector.term is None:
            return  # these workers are another's to keep
        until = time.monotonic() + within_s
        async with _as_far_as_ray_answers():
            await self._list()  # the last pass may have started some
        left = self._mine & (await self._tasks.workers()).keys()
        for worker in sorted(left):
            await self._drain(worker, within_s * HAND_BACK, "its spoke ends")
        async with _as_far_as_ray_answers():
            for worker in sorted(self._mine - left):  # not up yet: it holds nothing
                await self._backend.end(self.tenant, worker, "")
        while left and time.monotonic() < until:
            await asyncio.sleep(LOOK_S)  # they tell the store, and nobody else
            left &= (await self._tasks.workers()).keys()
        for worker in sorted(left):
            log.warning("worker.ended_late", worker=worker)
            async with _as_far_as_ray_answers():
                await self._backend.end(self.tenant, worker, "")
                await self._tasks.release(worker, self._elector.replica, died=False)


@asynccontextmanager
async def _as_far_as_ray_answers() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(END_S):
            yield
    except StoreError:
        raise
    except Exception as exc:  # noqa: BLE001  (Ray's own, of many kinds, which only its edge knows)
        log.warning("cluster.silent", error=repr(exc), message="what runs there ends with its nodes")
