"""Workers: they claim, hand in, give back, and die; late ones find their leases lost."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from chimera.core.lease import Claim
from chimera.core.task import TaskStatus
from chimera.errors import BudgetExceeded, LeaseLost
from chimera.store.ledger import Reservation
from chimera.store.scripts import Refusal, SyncScripts
from chimera.store.tasks import Ended, HandedIn, Heartbeat
from tests.store import drive
from tests.store.machine.draws import few, picks, seldom, workers
from tests.store.machine.stage import LEASE_S, SLOTS, Call, Refused, Stage, T
from tests.store.model import MAX_STALE, Task

S = TaskStatus


class Workers(Stage):
    """Three of them, and those who see them die."""

    @precondition(lambda self: self.tasks(S.READY))
    @rule(worker=workers, n=st.integers(1, SLOTS), again=seldom)
    def claim(self, worker: str, n: int, again: bool) -> None:
        claim_id, before = f"c{self.number()}", {one.task_id: one.token for one in self.model.tasks.values()}

        async def call() -> list[Claim]:
            return await self.stores.tasks.claim(
                worker, claim_id, lease_s=LEASE_S, general=n, high=n, slots=SLOTS
            )

        got = self.do(call, again=again)
        assert isinstance(got, list)
        for one in got:
            task, mission = self.model.tasks[one.task_id], self.model.missions[one.mission_id]
            assert (task.status, task.worker, task.attempt) == (S.PENDING, worker, one.attempt)
            assert one.token > before[one.task_id]
            assert one.state_version == mission.version
            task.token = one.token
            self.claims.append((worker, one))
        self.nothing_was_left(worker, got, n)

    def nothing_was_left(self, worker: str, got: list[Claim], n: int) -> None:
        """A free slot is filled while there is work for it; and high priority goes first."""
        lower = any(self.model.missions[one.mission_id].spec.priority != "high" for one in got)
        for mission in self.model.missions.values():
            left = mission.claimable and self.census.of("ready", mission.mission_id)
            if left and mission.mission_id not in self.census.members("revive"):
                assert len(got) == n, f"{worker} has free slots, and {left} wait"
                assert not (lower and mission.spec.priority == "high"), f"{left} go first"

    @precondition(lambda self: self.claims)
    @rule(pick=picks, late=seldom, acts=st.booleans(), again=seldom)
    def hand_in(self, pick: int, late: bool, acts: bool, again: bool) -> None:
        among = self.claims if late else self.current() or self.claims
        worker, one = among[pick % len(among)]
        task, mission = self.model.tasks[one.task_id], self.model.missions[one.mission_id]
        result = json.dumps({"n": int(self.number())})
        actions = (drive.HOOK.model_dump_json(),) if acts else ()

        async def call() -> Any:
            given = HandedIn(one.task_id, one.token, one.state_version, result, actions)
            return (await self.stores.tasks.submit(worker, [given], max_stale=MAX_STALE))[0]

        if not self.still_holds(one):
            answer = self.late(one, call)
            if task.handed_in == one.token:
                assert answer is task.handed_in_as
            else:
                assert isinstance(answer, LeaseLost)
            return
        stale = one.state_version != mission.version
        task.result, task.version = (None, 0) if stale else (result, one.state_version)
        task.handed_in, task.handed_in_as = one.token, Refusal.STALE if stale else None
        assert self.do(call, again=again) is task.handed_in_as

    @precondition(lambda self: self.claims)
    @rule(
        pick=picks,
        late=seldom,
        kind=st.sampled_from(["error", "timeout", "return"]),
        delay_s=st.sampled_from([0.0, 60.0]),
        again=seldom,
    )
    def end(self, pick: int, late: bool, kind: Any, delay_s: float, again: bool) -> None:
        among = self.claims if late else self.current() or self.claims
        worker, one = among[pick % len(among)]
        task, ended = self.model.tasks[one.task_id], Ended(one.task_id, one.token, kind, "no", delay_s)

        async def call() -> str | LeaseLost:
            return (await self.stores.tasks.end(worker, [ended]))[0]

        if not self.still_holds(one):
            answer = self.late(one, call)
            if task.ended == one.token:
                assert answer == task.ended_as
            else:
                assert isinstance(answer, LeaseLost)
            return
        answer = self.do(call, again=again)
        assert answer == task.status
        assert task.status in {S.READY, S.FAILED}
        task.ended, task.ended_as = one.token, task.status
        delayed = task.status is S.READY and delay_s > 0
        assert (one.task_id in self.census.members("later")) == delayed

    def late(self, one: Claim, call: Call[T]) -> T | Refused:
        """A call under a lost lease changes nothing, but that a worker taken for dead shows that it lives."""
        task = self.model.tasks[one.task_id]
        if task.fell_with != one.token:
            return self.idle(call)
        answer = self.do(call, again=True)
        assert not task.fell_with
        return answer

    @precondition(lambda self: self.tasks(S.PENDING) or self.census.members("later"))
    @rule(most=few)
    def rescue(self, most: int) -> None:
        answer: Any = self.do(lambda: self.stores.tasks.rescue("hub", lease_s=LEASE_S, most=most))
        stalled = "grace" in (self.census.plain("pulse") or {})
        assert not (answer[0] and stalled), "nothing is rescued after a stall"

    @precondition(lambda self: self.tasks(S.PENDING))
    @rule(worker=workers, most=few, died=seldom.map(lambda spared: not spared))
    def see_a_worker_go(self, worker: str, most: int, died: bool) -> None:
        held = self.held_by(worker)
        answer = self.do(lambda: self.stores.tasks.release(worker, "hub", died=died, most=most))
        assert answer == len(held)
        assert not self.held_by(worker)

    def held_by(self, worker: str) -> list[Task]:
        return [task for task in self.tasks(S.PENDING) if task.worker == worker]

    @precondition(lambda self: self.tasks(S.READY, S.PENDING))
    @rule(worker=workers, how=st.sampled_from(["hand in", "hand in", "error", "die"]))
    def work(self, worker: str, how: str) -> None:
        """Several steps at once, so that examples get far."""
        self.claim(worker, SLOTS, False)
        if how == "die":
            self.see_a_worker_go(worker, 3, True)
            return
        while mine := [at for at, (who, _) in enumerate(self.current()) if who == worker]:
            if how == "error":
                self.end(mine[0], False, "error", 0.0, False)
            else:
                self.hand_in(mine[0], False, False, False)

    # What should not matter to the work, or ends it.

    def renew(self, worker: str) -> None:
        held = [one for who, one in self.claims if who == worker][-6:]
        heartbeat = Heartbeat(SyncScripts(self.world.sync), self.tenant, worker, pid=7)
        leases = [(one.task_id, one.token) for one in held]

        async def call() -> Any:
            return heartbeat.renew(leases, lease_s=LEASE_S, slots=SLOTS, busy=len(leases))

        renewal: Any = self.do(call)
        assert set(renewal.lost) == {(one.task_id, one.token) for one in held if not self.still_holds(one)}

    def leave(self, worker: str) -> None:
        self.do(lambda: self.stores.tasks.leave(worker, "drained"), again=True)

    def ask_for_more_than_the_budget(self, pick: int) -> None:
        _, one = self.current()[pick % len(self.current())]
        mission = self.model.missions[one.mission_id]
        asked = Reservation(f"h{self.number()}", one.task_id, one.token, mission.budget + 1, 60)
        answer: Any = self.do(lambda: self.stores.ledger.reserve([asked], term=1, by="governor"))
        assert isinstance(answer[0], BudgetExceeded)
        mission.broke = mission.budget
