"""A sound history, as a drill's would be: transitions of a real store, and witnesses' journals beside it."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

from chimera.chaos.calls import AGENT, COST_MICROUSD, LIMITS, MODEL
from chimera.chaos.faults import Fault
from chimera.chaos.harvest import gather
from chimera.chaos.history import History
from chimera.chaos.journal import Journal
from chimera.core.lease import Claim
from chimera.core.mission import MissionSpec
from chimera.errors import BudgetExceeded
from chimera.runtime.base import Base, TenantStores
from chimera.store.connection import connect_sync
from chimera.store.ledger import Reservation, Settlement
from chimera.store.scripts import SyncScripts
from chimera.store.tasks import Ended, Heartbeat
from tests.store import drive

ACME, OTHER = "acme", "other"
HOLD = 400
"""The worst case of each call, µ$."""
NODES = [{"name": "a"}, {"name": "b", "depends_on": ["a"]}]


class Drill:
    """Does by hand what a fleet under a drill would do."""

    def __init__(self, base: Base, directory: Path) -> None:
        self.base, self.directory = base, directory
        self.stores: TenantStores = base.of(ACME)
        names = ("acknowledged", "calls", "hooks", "faults", "rests", "probes")
        self.journals = {name: Journal(directory / f"{name}.ndjson") for name in names}

    async def submit(
        self, mission_id: str, spec: MissionSpec, tenant: str = ACME, *, planned: bool = True, **told: bool
    ) -> None:
        await drive.submit(self.base, tenant, spec, mission_id)
        tasks = (await self.base.of(tenant).missions.get(mission_id)).total_tasks
        self.journals["acknowledged"].write(tenant=tenant, mission_id=mission_id, tasks=tasks, **told)
        if planned:
            assert await drive.plan(self.base, tenant, spec, mission_id)

    def beat(self, worker: str) -> None:
        connection = connect_sync(self.base.settings)
        Heartbeat(SyncScripts(connection), ACME, worker, pid=7).renew([], lease_s=60, slots=16, busy=1)
        connection.close()

    async def hold(self, name: str, one: Claim, *, sent: bool = True, ttl_s: float = 60) -> None:
        asked = Reservation(name, one.task_id, one.token, HOLD, ttl_s, AGENT, MODEL)
        assert await self.stores.ledger.reserve([asked], term=1, by="governor") == [None]
        if sent:
            assert await self.stores.requests.sent([name]) == [True]
            self.journals["calls"].write(task=one.task_id, event="served", cost=COST_MICROUSD, key=name)

    async def pay(self, name: str, cost: int | None) -> None:
        paid = Settlement(name, cost)
        await self.stores.ledger.settle([paid], term=1, by="governor", keep_s=60, keep_bytes=1_000)

    async def error(self, one: Claim, worker: str) -> None:
        await self.stores.tasks.end(worker, [Ended(one.task_id, one.token, "error", "no", 0)])

    async def accept(self) -> None:
        for held in await drive.review(self.stores):
            assert await drive.judge(self.stores, held) is None

    async def look(self, mission_id: str) -> None:
        """What the hub does for it, until nothing moves."""
        missions = self.stores.missions
        while await missions.pass_failures(term=drive.TERM, by="hub"):
            pass
        await missions.settle(mission_id, term=drive.TERM, by="hub")
        await missions.revive(mission_id, term=drive.TERM, by="hub")
        await missions.sweep(mission_id, term=drive.TERM, by="hub")
        await missions.settle(mission_id, term=drive.TERM, by="hub")

    # Missions, each for what a history must tell right.

    async def much_happens(self) -> None:
        """m1: a worker dies, a lease lapses alive, calls are paid, a result is poor, another unsure."""
        stores = self.stores
        await self.submit("m1", drive.spec(inputs=list(range(6)), budget_usd=Decimal("0.01")))
        for worker in ("w1", "w2"):
            self.beat(worker)
        paid, dead = await drive.claim(stores, 2, worker="w1")
        await self.hold("h1", paid)
        await self.pay("h1", COST_MICROUSD)
        assert await drive.hand_in(stores, paid, worker="w1", actions=[drive.HOOK]) is None
        at = time.time()
        self.journals["faults"].write(
            fault=Fault.WORKER_KILL, target="w1", tenant=ACME, began=at, until=time.time()
        )
        assert await stores.tasks.release("w1", "hub") == 1
        again, poor, unsure, stale, lapsing = await drive.claim(stores, 5, worker="w2")
        assert again.task_id == dead.task_id
        await self.error(again, "w2")
        assert await drive.hand_in(stores, poor, "poor", worker="w2") is None
        assert await drive.hand_in(stores, unsure, worker="w2") is None
        for held in await drive.review(stores):
            made = {poor.task_id: ("reject", 0.1), unsure.task_id: ("escalate", 0.8)}.get(held.task_id)
            assert await drive.judge(stores, held, drive.verdict(*(made or ("accept", 1.0)))) is None
        verdict = drive.verdict()
        await stores.reviews.answer(unsure.task_id, "op", verdict=verdict, by="eve", max_stale=5)
        await stores.missions.edit("m1", "op", by="eve", goal="another")
        await drive.hand_in(stores, stale, worker="w2")
        await self.base.redis.zadd(stores.tasks.keys.leases, {lapsing.task_id: 1})
        await stores.tasks.rescue("hub", lease_s=3_600)
        claims = await drive.claim(stores, 5, worker="w2")
        await self.late_payments(claims)
        for one in claims:
            assert await drive.hand_in(stores, one, worker="w2") is None
        await self.accept()
        await self.look("m1")
        for errand in await drive.errands(stores):
            self.journals["hooks"].write(task="m1.0", key=errand.action_id)
            assert await drive.report(stores, errand)

    async def late_payments(self, claims: list[Claim]) -> None:
        """A hold that runs out before its call's cost is known, one that was never sent, one given back."""
        await self.hold("h2", claims[0], ttl_s=0)
        await self.hold("h3", claims[1], sent=False, ttl_s=0)
        await self.hold("h4", claims[2], sent=False)
        assert await self.stores.ledger.expire(term=1, by="governor") == 2
        await self.pay("h2", COST_MICROUSD)
        await self.pay("h4", None)

    async def a_failure_is_redriven(self) -> None:
        """m2: its first task fails, its second is cancelled for want of it; both come back."""
        spec = drive.spec(inputs=[], plan={"strategy": "dag", "nodes": NODES}, max_attempts=1)
        await self.submit("m2", spec)
        (one,) = await drive.claim(self.stores, worker="w2")
        await self.error(one, "w2")
        await self.look("m2")
        assert await self.stores.missions.redrive("m2", ["m2.a"], "op", by="eve") == 1
        await self.look("m2")
        for _ in range(2):
            (one,) = await drive.claim(self.stores, worker="w2")
            assert await drive.hand_in(self.stores, one, worker="w2") is None
            await self.accept()
        await self.look("m2")

    async def an_owner_gives_up(self) -> None:
        """m3: held before it was planned, and cancelled with a task under way."""
        spec = drive.spec()
        await self.submit("m3", spec, planned=False)
        await self.stores.missions.pause("m3", "op", by="eve")
        await self.stores.missions.resume("m3", "op", by="eve")
        assert await drive.plan(self.base, ACME, spec, "m3")
        await drive.claim(self.stores, worker="w2")
        await self.stores.missions.cancel("m3", by="eve", reason="enough")
        await self.look("m3")

    async def a_budget_is_raised(self) -> None:
        """m4: ends for want of money, goes on with more."""
        await self.submit("m4", drive.spec(inputs=[1, 2], budget_usd=Decimal("0.0005")))
        one, other = await drive.claim(self.stores, 2, worker="w2")
        await self.hold("h5", one)
        asked = Reservation("h6", other.task_id, other.token, 600, 60, AGENT, MODEL)
        (refused,) = await self.stores.ledger.reserve([asked], term=1, by="governor")
        assert isinstance(refused, BudgetExceeded)
        await self.look("m4")
        await self.pay("h5", COST_MICROUSD)
        await self.stores.missions.resume("m4", "op", by="eve", budget_microusd=5_000)
        await self.look("m4")
        for one in await drive.claim(self.stores, 2, worker="w2"):
            assert await drive.hand_in(self.stores, one, worker="w2") is None
        await self.accept()
        await self.look("m4")

    async def a_neighbour(self) -> None:
        """Another tenant has its own, and an agent tries to reach it."""
        tried = {"tenant": ACME, "login": "worker", "what": f"read j of {OTHER}"}
        self.journals["probes"].write(task="m1.0", outcome="refused", **tried)
        await self.submit("n1", drive.spec(inputs=[1]), OTHER)
        stores = self.base.of(OTHER)
        await drive.finish(stores, 1)
        await stores.missions.settle("n1", term=drive.TERM, by="hub")

    async def some_are_urgent(self) -> None:
        """m5: high priority; one is accepted, a human is asked of another, and it is paused for a moment."""
        await self.submit("m5", drive.spec(inputs=[1, 2], priority="high"))
        for one in await drive.claim(self.stores, 2, worker="w2"):
            assert await drive.hand_in(self.stores, one, worker="w2") is None
        sure, unsure = await drive.review(self.stores)
        assert await drive.judge(self.stores, unsure, drive.verdict("escalate", 0.8)) is None
        await self.stores.missions.pause("m5", "p", by="eve")
        await self.stores.missions.resume("m5", "r", by="eve")
        assert await drive.judge(self.stores, sure) is None
        verdict = drive.verdict()
        await self.stores.reviews.answer(unsure.task_id, "op", verdict=verdict, by="eve", max_stale=5)
        await self.look("m5")

    async def all_rests_and_wakes(self) -> None:
        """m6: no worker is left, and one comes for new work."""
        await self.stores.tasks.leave("w2", "idle")
        self.journals["rests"].write(tenant=ACME, event="idle", idle_s=0.0)
        self.journals["rests"].write(tenant=ACME, event="zero")
        await self.submit("m6", drive.spec(inputs=[1]), wakes=True)
        self.beat("w3")
        (one,) = await drive.claim(self.stores, worker="w3")
        assert await drive.hand_in(self.stores, one, worker="w3") is None
        await self.accept()
        await self.look("m6")

    async def run(self) -> History:
        """All of it, gathered as after a drill."""
        try:
            await self.stores.ledger.set_limits(LIMITS, by="eve")
            await self.much_happens()
            await self.a_failure_is_redriven()
            await self.an_owner_gives_up()
            await self.a_budget_is_raised()
            await self.a_neighbour()
            await self.some_are_urgent()
            await self.all_rests_and_wakes()
            await drive.archive(self.stores, "m1")  # as a store that was full does
        finally:
            for journal in self.journals.values():
                journal.close()
        return await gather(self.base.settings, (ACME, OTHER), self.directory)
