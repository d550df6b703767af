"""The hub: it plans, looks at missions, passes failures on, sweeps and revives, under a leader's term."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from chimera.core.mission import MissionStatus
from chimera.core.plan import next_window
from chimera.core.task import TaskStatus
from chimera.runtime.elector import Elector
from chimera.runtime.orchestrator import Orchestrator
from chimera.store.scripts import OldTerm
from chimera.store.signals import Wakeups
from tests.store.machine.draws import WIDTH, few, picks, seldom
from tests.store.machine.stage import LEASE_S, Stage
from tests.store.model import Mission

M, S = MissionStatus, TaskStatus


class Hub(Stage):
    """Its duties in small pieces, in any order, by whoever leads."""

    @precondition(lambda self: not all(one.planned_all for one in self.model.missions.values()))
    @rule(pick=picks, most=few, again=seldom)
    def plan(self, pick: int, most: int, again: bool) -> None:
        left = [one for one in self.model.missions.values() if not one.planned_all]
        self.plan_window(left[pick % len(left)], most, again)

    def plan_window(self, mission: Mission, most: int, again: bool) -> None:
        spec, at = mission.spec, mission.planned
        window = next_window(
            spec, spec.inputs[at : at + most], cursor=at, inputs=len(spec.inputs), width=WIDTH
        )

        async def call() -> bool:
            return await self.stores.missions.plan(
                mission.mission_id, window, cursor=at, term=self.term, by=self.leader
            )

        if mission.final or mission.status is M.PAUSED:
            assert self.idle(call) is False
            return
        self.model.plan(mission.mission_id, at, window)
        assert self.do(call, again=again) is True

    def plan_what_is_past(self, pick: int) -> None:
        mission = self.mission(pick)
        if not mission.windows:
            return
        cursor, past = mission.windows[pick % len(mission.windows)]
        answer = self.idle(
            lambda: self.stores.missions.plan(
                mission.mission_id, past, cursor=cursor, term=self.term, by="late"
            )
        )
        just_now = past.cursor == mission.planned and not mission.final and mission.status is not M.PAUSED
        assert answer is just_now

    def act_under_an_old_term(self, pick: int) -> None:
        missions, name, term = self.stores.missions, self.mission(pick).mission_id, self.term - 1
        assert isinstance(self.idle(lambda: missions.settle(name, term=term, by="old")), OldTerm)
        assert isinstance(self.idle(lambda: missions.sweep(name, term=term, by="old")), OldTerm)
        assert isinstance(self.idle(lambda: missions.revive(name, term=term, by="old")), OldTerm)
        assert isinstance(self.idle(lambda: missions.pass_failures(term=term, by="old")), OldTerm)

    def elect(self, replica: str, lapsed: bool) -> None:
        if lapsed and self.leader:
            self.run(self.election.resign(self.leader))
            self.leader = ""
        term = self.run(self.election.lead(replica, ttl_s=LEASE_S))
        if self.leader not in {"", replica}:
            assert term is None
            return
        assert term is not None
        assert term == self.term if self.leader else term > self.term
        self.leader, self.term = replica, term
        # The first call under a new term shuts the older one out.
        self.do(lambda: self.stores.missions.pass_failures(term=self.term, by=self.leader, most=0))

    @rule(what=st.sampled_from(["settle", "pass", "sweep", "revive", "all"]), pick=picks, most=few)
    def hub(self, what: str, pick: int, most: int) -> None:
        """One duty once, or all of them."""
        match what:
            case "settle":
                self.settle(pick)
            case "pass":
                self.pass_failures(most)
            case "sweep":
                self.sweep(pick, most)
            case "revive":
                self.revive(pick, most)
            case _:
                self.tend()

    def settle(self, pick: int) -> None:
        mission = self.mission(pick)
        blocked = self.model.counts(mission.mission_id)[S.BLOCKED] > 0
        moving = mission.mission_id in self.census.members("revive") or (
            blocked and bool(self.census.members("fallen"))
        )
        status, reason = self.model.settled(mission.mission_id, moving=moving)
        answer = self.do(
            lambda: self.stores.missions.settle(mission.mission_id, term=self.term, by=self.leader),
            again=True,
        )
        assert answer == status == mission.status
        assert mission.reason == reason

    def pass_failures(self, most: int) -> None:
        self.do(lambda: self.stores.missions.pass_failures(term=self.term, by=self.leader, most=most))

    def sweep(self, pick: int, most: int) -> None:
        names = self.members("sweep") or list(self.model.missions)
        name = names[pick % len(names)]
        self.do(lambda: self.stores.missions.sweep(name, term=self.term, by=self.leader, most=most))

    def revive(self, pick: int, most: int) -> None:
        names = self.members("revive") or list(self.model.missions)
        name = names[pick % len(names)]
        self.do(lambda: self.stores.missions.revive(name, term=self.term, by=self.leader, most=most))

    def tend(self) -> None:
        """The orchestrator's whole round. What is left to plan is planned here, where the model sees it."""
        for mission in self.model.missions.values():
            if not mission.final and not mission.planned_all:
                self.plan_window(mission, 100, False)
        elector = Elector(self.election, self.leader)
        hub = Orchestrator(self.base, elector, Wakeups(self.base.blocking, "none"))
        self.do(lambda: hub.tend(self.tenant, term=self.term, everything=True))
