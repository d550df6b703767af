"""A mission's film: at every event the same as the timeline says, added up by layer."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies

from chimera.core.event import Event
from chimera.core.mission import MissionSpec
from chimera.core.plan import total_tasks
from chimera.core.task import TaskStatus
from chimera.core.timeline import Timeline
from chimera.dashboard.film import CODES, RUNG, UNPLANNED, Film, together
from chimera.dashboard.roster import roster_of
from tests.dashboard.events import BEGAN, Told

S = TaskStatus


def spec(inputs: int, strategy: str = "map_reduce", **plan: Any) -> MissionSpec:
    return MissionSpec.model_validate(
        {
            "goal": "g",
            "budget_usd": Decimal(1),
            "plan": {"strategy": strategy, **plan},
            "inputs": list(range(inputs)),
        }
    )


def film_of(events: list[Event], inputs: int = 4, **plan: Any) -> Film:
    mission = spec(inputs, **plan)
    film = Film(roster_of(mission, inputs, total_tasks(mission, inputs, 20), 20), "m1")
    for event in events:
        film.take(event)
    return film


def by_layer(film: Film, index: int) -> list[dict[str, int]]:
    return [
        {CODES[code]: count for code, count in enumerate(counts[:UNPLANNED]) if count}
        for counts in film.counts(index)
    ]


KINDS = (
    "claimed",
    "submitted",
    "accepted",
    "erred",
    "rejected",
    "escalated",
    "failed",
    "redriven",
    "cancelled",
)


@given(
    steps=strategies.lists(
        strategies.tuples(strategies.integers(0, 4), strategies.sampled_from(KINDS)), max_size=2 * RUNG
    ),
    windows=strategies.sampled_from([[4], [1, 3], [2, 2]]),
)
def test_at_every_event_a_film_counts_what_the_timeline_has(
    steps: list[tuple[int, str]], windows: list[int]
) -> None:
    told, cursor = Told(), 0
    for window in windows:
        cursor += window
        ready = f"{cursor - window}..{cursor - 1}"
        told.planned(window, ready, "r1-0" if cursor == window else "", cursor)
    for number, kind in steps:
        told.tell(f"task.{kind}", "r1-0" if number == 4 else str(number), attempt=1)
    film, line = film_of(told.events), Timeline()
    for event in told.events:
        line.take(event)
    assert len(film) == len(told.events)
    for index in range(len(film) + 1):
        moment = line.moment(index)
        expected = Counter(task.status for task in moment.tasks.values())
        assert together(film.counts(index)) == {status: expected[status] for status in CODES}
        told_by_number = {
            film.roster.name(number): CODES[code]
            for number, code in enumerate(film.statuses(index))
            if code != UNPLANNED
        }
        assert told_by_number == {
            task_id.partition(".")[2]: task.status for task_id, task in moment.tasks.items()
        }
        aside = film.aside(index)
        assert (aside.mission, aside.attempts, aside.seq) == (moment.mission, moment.attempts, moment.seq)
    assert bytes(film.now) == bytes(film.statuses(len(film)))


def test_a_moment_counts_each_layer_apart() -> None:
    told = Told()
    told.planned(5, "0..3", "r1-0")
    told.accepted("0")
    told.tell("task.claimed", "1", attempt=1)
    film = film_of(told.events)
    assert by_layer(film, 2) == [{}, {}]
    assert by_layer(film, 3) == [{S.READY: 4}, {S.BLOCKED: 1}]
    assert by_layer(film, len(film)) == [{S.READY: 2, S.PENDING: 1, S.ACCEPTED: 1}, {S.BLOCKED: 1}]


def test_a_step_knows_its_attempts_its_cost_and_where_its_time_went() -> None:
    told = Told()
    told.planned(5, "0..3", "r1-0")
    told.tell("task.claimed", "0", after_s=10, attempt=1)
    told.tell("task.erred", "0", after_s=3)
    told.accepted("0", cost=40, attempt=2)
    told.tell("spend.held", "0", hold="j", amount=9, agent="judge", model="m")
    told.tell("spend.expired", "0", hold="j", cost=9, sent=True)
    told.tell("spend.settled", "0", hold="j", cost=5)
    told.tell("spend.refused", "1", kind="window", level="tenant/day", amount=7)
    step = film_of(told.events).steps[0]
    assert (step.claims, dict(step.ends)) == (2, {"task.erred": 1})
    assert (step.calls, step.settled, step.judging, step.refused) == (2, 45, 5, 1)
    pending = CODES.index(S.PENDING)
    assert (step.stood_us[pending], step.stays[pending]) == (6_000_000, 2)
    ready = CODES.index(S.READY)
    assert (step.stood_us[ready], step.stays[ready]) == (11_000_000, 2)


def test_a_tasks_stretches_say_where_it_stood_and_in_which_attempt() -> None:
    told = Told()
    told.planned(5, "0..3", "r1-0")
    told.tell("task.claimed", "2", attempt=1)
    told.tell("task.timed_out", "2")
    told.tell("task.claimed", "2", attempt=2)
    film = film_of(told.events)
    began = film.begin_us
    second = 1_000_000
    assert film.stretches([2])[2] == [
        (S.READY, began + 2 * second, began + 3 * second, 0),
        (S.PENDING, began + 3 * second, began + 4 * second, 1),
        (S.READY, began + 4 * second, began + 5 * second, 1),
        (S.PENDING, began + 5 * second, None, 2),
    ]


def test_tasks_of_a_status_are_found_without_their_records() -> None:
    told = Told()
    told.planned(5, "0..3", "r1-0")
    told.tell("task.claimed", "1", attempt=1)
    told.tell("task.failed", "1", reason="timeout")
    film = film_of(told.events)
    assert list(film.having([CODES.index(S.FAILED)])) == [1]
    assert list(film.having([CODES.index(S.READY)], layer=0)) == [0, 2, 3]
    assert list(film.having([CODES.index(S.READY)], layer=1)) == []


def test_samples_are_the_counts_at_instants_evenly_apart() -> None:
    told = Told()
    told.planned(5, "0..3", "r1-0")
    told.tell("task.claimed", "0", attempt=1)
    film = film_of(told.events)
    samples = film.samples(4, film.begin_us, film.end_us)
    assert [together(sample)[S.READY] for sample in samples] == [0, 0, 4, 3]


def test_what_a_store_lost_counts_until_its_next_epoch_and_no_longer() -> None:
    told = Told()
    told.planned(5, "0..3", "r1-0")
    told.tell("task.claimed", "0", attempt=1)
    lost = told.events[-1].seq
    told.tell("task.submitted", "0", attempt=1)
    told.epoch = 2
    again = Event(
        epoch=2, seq=lost + 1, at=told.at, kind="task.rescued", by="t", mission_id="m1", task_id="m1.3"
    )
    film = film_of([*told.events])
    assert by_layer(film, len(film))[0] == {S.READY: 3, S.REVIEW: 1}
    film.begin_epoch({2: lost - 1})
    film.take(again)
    assert by_layer(film, len(film))[0] == {S.READY: 4}


def test_events_of_other_missions_and_tasks_that_no_plan_has_change_nothing() -> None:
    told = Told()
    told.planned(5, "0..3", "r1-0")
    film = film_of(told.events)
    film.take(Event(seq=99, at=BEGAN, kind="task.claimed", by="t", mission_id="m2", task_id="m2.0"))
    told.tell("task.claimed", "r9-9", attempt=1)
    film.take(told.events[-1])
    assert len(film) == len(told.events)
    assert by_layer(film, len(film)) == [{S.READY: 4}, {S.BLOCKED: 1}]
    assert film.subject(len(film)) is None


def test_a_moment_beyond_the_last_event_is_refused() -> None:
    film = film_of(Told().events)
    with pytest.raises(IndexError, match="no moment"):
        film.aside(len(film) + 1)


def test_a_film_of_many_events_stays_within_the_weight_it_tells() -> None:
    import tracemalloc

    told = Told()
    told.planned(10_500, "0..9999", " ".join(f"r1-{place}" for place in range(500)))
    for number in range(3_000):
        told.accepted(str(number), cost=5)
    tracemalloc.start()
    film = film_of(told.events, 10_000)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert film.weight / 2 < taken < film.weight
