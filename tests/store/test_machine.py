"""The transitions against a model: workers, judges, rescuers, leaders and people in any order.

Hypothesis draws the order and a real server runs the scripts. `tests.store.model` says what each call may do,
`tests.store.census` looks at every key after every step, and a call that is refused must have changed none.
At the end all do their duty until nothing moves: every mission must then be over, or wait for a human.

Much longer, with other examples each time:

    pytest tests/store/test_machine.py --hypothesis-profile=long [--hypothesis-seed=N]
"""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from typing import Any, cast

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from chimera.core.mission import MissionSpec, MissionStatus
from chimera.core.task import FINAL, TaskStatus
from chimera.errors import LeaseLost
from chimera.runtime.base import open_base
from chimera.settings import Settings
from chimera.store.connection import connect_sync
from chimera.store.scripts import Refusal
from chimera.store.tasks import Ended
from tests.store import drive
from tests.store.census import Census, remains
from tests.store.machine.clock import Clock
from tests.store.machine.draws import missions, picks, seldom
from tests.store.machine.hub import Hub
from tests.store.machine.judges import Judges
from tests.store.machine.people import People
from tests.store.machine.stage import LEASE_S, TIMED, World, said
from tests.store.machine.workers import Workers

M, S = MissionStatus, TaskStatus

ROUNDS = 60
"""Of everybody's duties; far more than any example needs to come to rest."""
LIMIT_S = 600 if hypothesis.settings.get_current_profile_name() == "gate" else 7_200
"""Five minutes of it for making a failure small before it is shown."""
QUEUES = (
    *("ready", "later", "leases", "review", "judging", "parked", "fallen", "sweep", "revive"),
    *("high", "normal", "dirty"),
)


class Fleet(People, Hub, Workers, Judges, Clock):
    """One tenant, and everybody who acts on it."""

    @initialize(
        specs=st.lists(missions(), min_size=1, max_size=2),
        planned=st.sampled_from(["at once", "next", "next", "later"]),
    )
    def begin(self, specs: list[MissionSpec], planned: str) -> None:
        self.elect("hub1", True)
        for at, spec in enumerate(specs):
            self.submit(spec, planned == "at once")
            if planned == "next":
                self.plan_window(self.mission(at), 100, True)

    @rule(what=st.sampled_from(["budget", "budget", "cancel", "deadline"]), pick=picks, again=seldom)
    def end_a_mission(self, what: str, pick: int, again: bool) -> None:
        """It runs out of money or time, or its owner has enough of it."""
        match what:
            case "budget" if self.current():
                self.ask_for_more_than_the_budget(pick)
                self.settle(pick)
            case "deadline":
                self.a_deadline_comes(pick)
            case "cancel":
                self.cancel(pick, again)

    @rule(
        what=st.sampled_from(
            [
                *("renew", "old term", "old plan", "operation", "leave", "elect", "lapse", "review"),
                *("stall", "stall over"),
            ]
        ),
        pick=picks,
    )
    def disturb(self, what: str, pick: int) -> None:
        """Something that should not matter to the work."""
        worker, replica = f"w{pick % 3 + 1}", f"hub{pick % 2 + 1}"
        match what:
            case "renew":
                self.renew(worker)
            case "old term":
                self.act_under_an_old_term(pick)
            case "old plan":
                self.plan_what_is_past(pick)
            case "operation" if self.operations:
                call, answer = self.operations[pick % len(self.operations)]
                assert repr(self.idle(call)) == answer
            case "leave":
                self.leave(worker)
            case "elect" | "lapse":
                self.elect(replica, what == "lapse")
            case "review" if self.reviews:
                self.renew_reviews(pick)
            case "stall":
                self.the_store_was_out_of_reach()
            case "stall over":
                self.the_store_was_long_in_reach()

    # The end: everybody does their duty until nothing moves.

    def teardown(self) -> None:
        try:
            if self.sound and self.model.missions:
                self.come_to_rest()
                self.nothing_is_left()
                self.the_past_is_as_it_was()
                self.prune_what_is_over()
        finally:
            self.run(self.forget())

    async def forget(self) -> None:
        keys = await self.base.redis.keys(f"{self.keys.root}*")
        role = self.election.role
        await self.base.redis.delete(*keys, f"chimera:leader:{role}", f"chimera:term:{role}")

    def come_to_rest(self) -> None:
        for mission in self.model.missions.values():
            if mission.status is M.PAUSED and not mission.overdue:
                self.do(partial(self.stores.missions.resume, mission.mission_id, self.number(), by="eve"))
        for _ in range(ROUNDS):
            before = self.resting()
            self.duties()
            self.everything_is_where_it_belongs()
            if self.resting() == before:
                return
        raise AssertionError(f"it never comes to rest: {self.census.found}")

    def duties(self) -> None:
        """Everybody once; whatever waited for its time no longer does."""
        self.tend()
        self.the_store_was_long_in_reach()
        self.past([(name, member) for name in TIMED for member in self.members(name)])
        self.do(lambda: self.stores.tasks.rescue("hub", lease_s=LEASE_S))
        self.work("last", "hand in")
        self.judge("last", "accept")

    def resting(self) -> dict[str, Any]:
        """All keys but for what beats and claims alone change."""
        beats = (self.keys.pulse, self.keys.of("worker", ""))
        return {name: value for name, value in self.census.found.items() if not name.startswith(beats)}

    def nothing_is_left(self) -> None:
        for mission in self.model.missions.values():
            name, counts = mission.mission_id, self.model.counts(mission.mission_id)
            waits = mission.status is M.WAITING_REVIEW and counts[S.ESCALATED] > 0
            assert mission.final or waits, f"{name} is {mission.status} for ever: {dict(counts)}"
            assert not mission.final or set(counts) <= FINAL, f"{name} is {mission.status}: {dict(counts)}"
        for queue in QUEUES:
            assert not self.census.queue(queue), f"{queue}: {self.census.queue(queue)}"

    def the_past_is_as_it_was(self) -> None:
        """Each moment that was found to be the store's is told alike when all is over."""
        for mission_id, moment in self.moments:
            assert self.timelines[mission_id].moment(moment.index) == moment

    def prune_what_is_over(self) -> None:
        """Nothing stays behind; and whoever comes late brings nothing back."""
        while errands := self.run(drive.errands(self.stores)):
            for errand in errands:
                self.run(drive.report(self.stores, errand))
        over = [one.mission_id for one in self.model.missions.values() if one.final]
        for mission_id in over:
            self.run(drive.archive(self.stores, mission_id))
        self.census = self.run(Census.take(self.base.redis, self.keys, self.census.last))
        left = [found for mission_id in over for found in remains(self.census, mission_id)]
        assert not left, "\n".join(left)
        for worker, claim in self.claims:
            if claim.mission_id in over:
                late = Ended(claim.task_id, claim.token, "error", "late", 0)
                ended: Any = self.idle(partial(self.stores.tasks.end, worker, [late]))
                assert isinstance(ended[0], LeaseLost)
        for judge, held in self.reviews:
            if held.mission_id in over:
                verdicts = [(held, said("accept"))]
                commit = partial(self.stores.reviews.commit, judge, verdicts, max_stale=1)
                assert self.idle(commit) == [Refusal.LOST]
        for call, answer in self.operations:
            assert repr(self.idle(call)) == answer


@pytest.mark.unmeasured
@pytest.mark.timeout(LIMIT_S)
def test_every_order_of_calls_keeps_to_the_model(settings: Settings) -> None:
    with asyncio.Runner() as runner:
        base, sync = runner.run(open_base(settings)), connect_sync(settings)
        try:
            # Each example makes a fleet of its own in the same world.
            fleet = partial(Fleet, World(runner, base, sync, itertools.count(1)))
            run_state_machine_as_test(cast("type[Fleet]", fleet), settings=hypothesis.settings())
        finally:
            sync.close()
            runner.run(base.close())
