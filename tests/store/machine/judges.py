"""Judges: they take results under leases, commit verdicts, give back what they could not judge."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from chimera.core.lease import Review
from chimera.core.mission import MissionStatus
from chimera.core.task import FINAL, TaskStatus
from chimera.store.scripts import Refusal
from tests.store.machine.draws import decisions, few, judges, picks, seldom
from tests.store.machine.stage import LEASE_S, Stage, said
from tests.store.model import MAX_FAILURES, MAX_STALE

M, S = MissionStatus, TaskStatus


class Judges(Stage):
    """Two of them; one may hold what it has lost."""

    @precondition(lambda self: self.tasks(S.REVIEW))
    @rule(judge=judges, n=few, again=seldom)
    def claim_reviews(self, judge: str, n: int, again: bool) -> None:
        claim_id = f"r{self.number()}"
        before = {one.task_id: one.judge_token for one in self.model.tasks.values()}

        async def call() -> list[Review]:
            return await self.stores.reviews.claim(judge, claim_id, lease_s=LEASE_S, most=n)

        got = self.do(call, again=again)
        assert isinstance(got, list)
        assert len({one.task_id for one in got}) == len(got), "a result is handed out twice"
        for one in got:
            task, mission = self.model.tasks[one.task_id], self.model.missions[one.mission_id]
            assert task.status is S.REVIEW
            assert mission.status is not M.PAUSED
            assert one.result_json == task.result
            assert one.token > before[one.task_id]
            task.judge_token = one.token
            self.reviews.append((judge, one))

    def renew_reviews(self, pick: int) -> None:
        _, one = self.reviews[pick % len(self.reviews)]
        held = self.still_judges(one)

        async def call() -> list[bool]:
            return await self.stores.reviews.renew([(one.task_id, one.token)], lease_s=LEASE_S)

        assert (self.do(call) if held else self.idle(call)) == [held]

    @precondition(lambda self: self.reviews)
    @rule(pick=picks, late=seldom, counts=st.booleans())
    def give_back(self, pick: int, late: bool, counts: bool) -> None:
        among = self.reviews if late else self.judging() or self.reviews
        judge, one = among[pick % len(among)]
        task = self.model.tasks[one.task_id]

        async def call() -> None:
            await self.stores.reviews.give_back(judge, [(one, "away", counts)], max_failures=MAX_FAILURES)

        if not self.still_judges(one):
            self.idle(call)
            return
        task.judge_errors += counts
        task.judge_token += 1
        self.do(call, again=True)
        gives_up = task.judge_errors >= MAX_FAILURES
        assert task.status is (S.ESCALATED if gives_up else S.REVIEW)

    @precondition(lambda self: self.reviews)
    @rule(pick=picks, late=seldom, decision=decisions, again=seldom)
    def commit(self, pick: int, late: bool, decision: str, again: bool) -> None:
        among = self.reviews if late else self.judging() or self.reviews
        judge, one = among[pick % len(among)]
        task = self.model.tasks[one.task_id]

        async def call() -> Refusal | None:
            answers = await self.stores.reviews.commit(judge, [(one, said(decision))], max_stale=MAX_STALE)
            return answers[0]

        if not self.still_judges(one):
            first = task.judged_as if task.judged == one.token else Refusal.LOST
            assert self.idle(call) is first
            return
        stale = task.version != self.model.missions[one.mission_id].version
        task.judged, task.judged_as = one.token, Refusal.STALE if stale else None
        assert self.do(call, again=again) is task.judged_as
        if stale:
            assert task.status in {S.READY, S.ESCALATED}
        elif decision == "reject":
            assert task.status in {S.READY, S.FAILED}
        else:
            assert task.status is (S.ACCEPTED if decision == "accept" else S.ESCALATED)
        self.what_has_nothing_open_is_over(one.mission_id)

    def what_has_nothing_open_is_over(self, mission_id: str) -> None:
        mission, n = self.model.missions[mission_id], self.model.counts(mission_id)
        moving = mission_id in self.census.members("revive")
        if mission.planned_all and not moving and mission.status is not M.PAUSED and set(n) <= FINAL:
            assert mission.final, f"the last verdict left {mission_id} {mission.status}"

    @precondition(lambda self: self.tasks(S.REVIEW))
    @rule(judge=judges, decision=decisions)
    def judge(self, judge: str, decision: str) -> None:
        """Several steps at once, so that examples get far."""
        self.claim_reviews(judge, 3, False)
        while self.judging():
            self.commit(0, False, decision, False)
