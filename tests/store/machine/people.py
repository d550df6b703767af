"""People: they submit, change, hold, end and bring back missions, and answer for what waits for them."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from chimera.core.mission import MissionSpec, MissionStatus
from chimera.core.task import TaskStatus
from chimera.errors import Conflict, InvalidTransition, StaleVerdict
from tests.store import drive
from tests.store.machine.draws import missions, picks, seldom
from tests.store.machine.stage import Stage, said
from tests.store.model import MAX_STALE

M, S = MissionStatus, TaskStatus


class People(Stage):
    """All that comes through the API."""

    @precondition(lambda self: len(self.model.missions) < 3)
    @rule(spec=missions(), at_once=st.booleans())
    def submit(self, spec: MissionSpec, at_once: bool) -> None:
        mission_id = f"m{len(self.model.missions) + 1}"
        self.model.submit(mission_id, spec)
        if at_once:
            self.model.plan(mission_id, 0, drive.whole(spec))
        self.do(lambda: drive.submit(self.base, self.tenant, spec, mission_id, at_once=at_once), again=True)

    @rule(what=st.sampled_from(["edit", "pause", "resume", "raise the budget"]), pick=picks, again=seldom)
    def operator(self, what: str, pick: int, again: bool) -> None:
        """Somebody changes, holds or goes on with a mission."""
        match what:
            case "edit":
                self.edit(pick, again)
            case "pause":
                self.pause(pick, again)
            case _:
                self.resume(pick, what != "resume", again)

    def edit(self, pick: int, again: bool) -> None:
        mission, op = self.mission(pick), self.number()
        before = mission.version

        async def call() -> int:
            return await self.stores.missions.edit(mission.mission_id, op, by="eve", goal=f"goal {op}")

        if mission.final:
            assert isinstance(self.idle(call), Conflict)
        else:
            assert self.operate(call, again=again) == before + 1

    def pause(self, pick: int, again: bool) -> None:
        mission, op = self.mission(pick), self.number()

        async def call() -> None:
            await self.stores.missions.pause(mission.mission_id, op, by="eve")

        if mission.final:
            assert isinstance(self.idle(call), InvalidTransition)
        else:
            assert self.operate(call, again=again) is None
            assert mission.status is M.PAUSED

    def resume(self, pick: int, more: bool, again: bool) -> None:
        mission, op = self.mission(pick), self.number()
        budget = mission.budget + 1_000 if more else None

        async def call() -> None:
            await self.stores.missions.resume(mission.mission_id, op, by="eve", budget_microusd=budget)

        broke = mission.status is M.FAILED and mission.reason == "budget_exceeded"
        if mission.overdue or not (mission.status is M.PAUSED or (broke and more)):
            assert isinstance(self.idle(call), InvalidTransition)
        else:
            assert self.operate(call, again=again) is None
            assert mission.status in {M.RUNNING, M.PLANNING}

    def cancel(self, pick: int, again: bool) -> None:
        mission = self.mission(pick)

        async def call() -> None:
            await self.stores.missions.cancel(mission.mission_id, by="eve", reason="enough")

        if mission.final and mission.status is not M.CANCELLED:
            assert isinstance(self.idle(call), InvalidTransition)
        else:
            self.do(call, again=again)
            assert mission.status is M.CANCELLED

    @precondition(lambda self: self.tasks(S.FAILED))
    @rule(pick=picks, which=st.sets(picks, min_size=1, max_size=3), again=seldom)
    def redrive(self, pick: int, which: set[int], again: bool) -> None:
        failed, op = self.tasks(S.FAILED), self.number()
        mission = self.model.missions[failed[pick % len(failed)].mission_id]
        # Those that failed, now and then with others among them: of these none is redriven.
        mine = sorted(self.model.of(mission.mission_id), key=lambda task: task.status is not S.FAILED)
        ids = sorted({mine[at % len(mine)].task_id for at in which})
        expected = sum(self.model.tasks[one].status is S.FAILED for one in ids)

        async def call() -> int:
            return await self.stores.missions.redrive(mission.mission_id, ids, op, by="eve")

        ended = mission.status is M.FAILED and mission.reason not in {"min_accepted", "task_failed"}
        if mission.overdue or mission.status is M.CANCELLED or ended:
            assert isinstance(self.idle(call), InvalidTransition)
        else:
            assert self.operate(call, again=again) == expected
            assert not (expected and mission.final)

    @precondition(lambda self: self.tasks(S.REVIEW, S.ESCALATED))
    @rule(pick=picks, anyhow=seldom, approve=st.booleans(), again=seldom)
    def answer(self, pick: int, anyhow: bool, approve: bool, again: bool) -> None:
        tasks = list(self.model.tasks.values()) if anyhow else self.tasks(S.ESCALATED) or self.tasks(S.REVIEW)
        task, op, verdict = tasks[pick % len(tasks)], self.number(), said("accept" if approve else "reject")
        before, stale = task.status, task.version != self.model.missions[task.mission_id].version

        async def call() -> None:
            await self.stores.reviews.answer(task.task_id, op, verdict=verdict, by="eve", max_stale=MAX_STALE)

        if before is not S.ESCALATED or (approve and task.result is None):
            answer = self.idle(call)
            assert isinstance(answer, Conflict)
            assert not isinstance(answer, StaleVerdict)
        elif approve and stale:
            assert isinstance(self.operate(call, again=again), StaleVerdict)
            assert task.status is S.READY
        else:
            assert self.operate(call, again=again) is None
            assert task.status in ({S.ACCEPTED} if approve else {S.READY, S.FAILED})
