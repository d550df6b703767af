"""The clock: an instant that the store compares with its own time is set into the past."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.store.machine.draws import picks
from tests.store.machine.stage import TIMED, Stage


class Clock(Stage):
    """Time passes, for some and not for others."""

    @precondition(lambda self: any(self.census.members(name) for name in TIMED))
    @rule(which=st.sets(picks, min_size=1, max_size=4))
    def time_passes(self, which: set[int]) -> None:
        """Leases run out, workers and judges fall silent, what waited may go on."""
        timed = [(name, member) for name in TIMED for member in self.members(name)]
        self.past(sorted({timed[one % len(timed)] for one in which}))

    def past(self, due: Sequence[tuple[str, str]]) -> None:
        """Members of sorted sets come due."""
        for name, member in due:
            self.run(self.base.redis.zadd(getattr(self.keys, name), {member: 1}, xx=True))
        self.look()

    def a_deadline_comes(self, pick: int) -> None:
        mission = self.mission(pick)
        if mission.spec.deadline_s is not None:
            mission.overdue = True
            self.run(self.base.redis.hset(self.keys.of("mission", mission.mission_id), "deadline", 1))
            self.past([("active", mission.mission_id)])

    def the_store_was_out_of_reach(self) -> None:
        """For longer than a lease: whoever comes next holds rescues back."""
        self.run(self.base.redis.hset(self.keys.pulse, "at", 1))
        self.look()

    def the_store_was_long_in_reach(self) -> None:
        """For a lease after the stall: rescues are held back no more."""
        self.run(self.base.redis.hdel(self.keys.pulse, "grace"))
        self.look()
