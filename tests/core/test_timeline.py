"""A mission's state at any event: what events say, keyframes, and what the store lost.

That it is what the store holds is tested against one: tests/store/test_machine.py, test_ledger_model.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.core import timeline
from chimera.core.event import Event, Position
from chimera.core.mission import MissionStatus
from chimera.core.task import TaskStatus
from chimera.core.timeline import Moment, TaskAt, Timeline, at, runs
from tests.core.ledgers import START, Book

M, S = MissionStatus, TaskStatus


def begun(tasks: str = "0..2", blocked: str = "") -> Book:
    """A mission of so many tasks, running."""
    book = Book()
    book.note("mission.submitted", "m1", priority="low", budget=500, total=3)
    book.note("mission.running", "m1")
    book.note(
        "mission.planned", "m1", tasks=len([*runs(tasks), *runs(blocked)]), ready=tasks, blocked=blocked
    )
    return book


def moments(events: Sequence[Event], **how: object) -> list[Moment]:
    """Each of them, by a fold over the events up to it and no further."""
    return [at(events[:end], (9, 9), **how) for end in range(len(events) + 1)]  # type: ignore[arg-type]  # starts alone is handed on


def test_names_that_were_made_in_a_row_are_told_as_one() -> None:
    assert list(runs("a 0..2 r1-0 7")) == ["a", "0", "1", "2", "r1-0", "7"]
    assert list(runs("")) == []


def test_a_task_is_followed_from_event_to_event() -> None:
    book = begun("0..1", "r1-0")
    book.note("task.claimed", "m1.0", attempt=1)
    book.hold("m1.0", 70)
    book.note("task.erred", "m1.0")
    line = Timeline()
    for event in book.events:
        line.take(event)
    assert line.moment(3).counts == {S.READY: 2, S.BLOCKED: 1}
    assert line.moment(4).tasks["m1.0"] == TaskAt(S.PENDING, 1, 0)
    last = line.last
    assert last.tasks == {
        "m1.0": TaskAt(S.READY, 1, 0),
        "m1.1": TaskAt(S.READY, 0, 0),
        "m1.r1-0": TaskAt(S.BLOCKED, 0, 0),
    }
    assert (last.mission.status, last.mission.planned, last.mission.budget_microusd) == (M.RUNNING, 3, 500)
    assert (last.attempts, last.held_microusd, last.settled_microusd, last.seq) == (1, 70, 0, 6)


def test_a_place_is_an_event_a_position_or_an_instant() -> None:
    book = begun()
    book.wait(seconds=10)
    book.note("task.claimed", "m1.0", attempt=1)
    line = Timeline()
    for event in book.events:
        line.take(event)
    assert line.at((1, 3)).index == 3
    assert line.at(Position(1, 4, "1-0")).index == 4
    assert line.at((1, 99)) == line.last
    assert line.at(START - timedelta(seconds=1)).mission.status is None
    assert line.at(START + timedelta(seconds=9)).index == 3
    assert line.at(START + timedelta(seconds=10)).counts == {S.PENDING: 1, S.READY: 2}
    with pytest.raises(IndexError, match="4 events"):
        line.moment(5)


def test_events_of_other_missions_are_passed_over() -> None:
    book = begun()
    book.note("mission.submitted", "m2", budget=1)
    book.note("task.claimed", "m2.0", attempt=1)
    line = Timeline()
    for event in book.events:
        line.take(event)
    assert len(line) == 3
    assert line.mission_id == "m1"


def test_a_recorder_of_before_names_were_told_is_followed_from_what_it_says() -> None:
    book = Book()
    book.note("mission.submitted", "m1", priority="low")
    book.note("mission.planned", "m1", tasks=2, cursor=2)
    book.note("task.claimed", "m1.1", attempt=1)
    book.note("mission.resumed", "m1")
    last = at(book.events, (1, 9))
    assert last.tasks == {"m1.1": TaskAt(S.PENDING, 1, 0)}
    assert (last.mission.status, last.mission.planned) == (M.RUNNING, 2)


def test_a_charge_that_is_corrected_counts_once() -> None:
    book = begun()
    hold = book.hold("m1.0", 100)
    book.expire(hold, 100)
    book.settle(hold, 30)
    said = [(one.held_microusd, one.settled_microusd) for one in moments(book.events)[4:]]
    assert said == [(100, 0), (0, 100), (0, 30)]


@pytest.mark.parametrize("told", ["by the recorder", "by the store"])
def test_what_the_store_lost_counts_until_the_new_epoch_and_no_longer(told: str) -> None:
    book = begun("0..1")
    book.note("task.claimed", "m1.0", attempt=1)
    hold = book.hold("m1.0", 100)
    lost = [
        book.note("mission.planned", "m1", tasks=1, ready="2"),
        book.note("task.claimed", "m1.1", attempt=1),
    ]
    lost.append(book.settle(hold, 60))
    book.epoch, book.seq = 2, 5
    if told == "by the recorder":
        book.note("recorder.epoch", "", after=5, lost=3)
    else:
        book.seq += 1
    book.note("task.submitted", "m1.0", attempt=1)
    book.settle(hold, 20)
    line = Timeline({2: 5} if told == "by the store" else None)
    for event in book.events:
        line.take(event)
    before = line.at((1, 8))
    assert before.tasks["m1.1"].status is S.PENDING
    assert (before.settled_microusd, before.held_microusd, len(before.tasks)) == (60, 0, 3)
    after = line.at((2, 7))
    assert {name: one.status for name, one in after.tasks.items()} == {"m1.0": S.REVIEW, "m1.1": S.READY}
    assert (after.settled_microusd, after.held_microusd, after.attempts) == (0, 100, 1)
    assert line.last.settled_microusd == 20


acts = st.tuples(
    st.sampled_from(
        ["claimed", "submitted", "accepted", "erred", "rejected", "failed", "hold", "settle", "epoch"]
    ),
    st.integers(0, 5),
)


@given(acts=st.lists(acts, max_size=60), every=st.integers(1, 7))
def test_a_moment_is_the_same_however_many_events_lie_between_keyframes(
    acts: list[tuple[str, int]], every: int
) -> None:
    book, holds = begun("0..5"), ["none"]
    for what, number in acts:
        if what == "hold":
            holds.append(book.hold(f"m1.{number}", number + 1))
        elif what == "settle":
            book.settle(holds[number % len(holds)], number, f"m1.{number}")
        elif what == "epoch":
            after = max(3, book.seq - number)
            book.epoch, book.seq = book.epoch + 1, after
            book.note("recorder.epoch", "", after=after)
        else:
            book.note(f"task.{what}", f"m1.{number}", attempt=1)
    with patch.object(timeline, "KEYFRAME", every):
        line = Timeline()
        for event in book.events:
            line.take(event)
        told = [line.moment(index) for index in range(len(line) + 1)]
    ends = [0, *(at for at, event in enumerate(book.events, 1) if event.kind != "recorder.epoch")]
    for index, end in enumerate(ends):
        fresh = Timeline()
        for event in book.events[:end]:
            fresh.take(event)
        assert told[index] == fresh.moment(index)


def test_a_moment_of_a_long_mission_is_a_copy_and_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    book = begun("0..9999")
    for number in range(10_000):
        for kind in ("claimed", "submitted", "accepted"):
            book.note(f"task.{kind}", f"m1.{number}", attempt=1)
    line = Timeline()
    for event in book.events:
        line.take(event)
    steps = 0
    apply = timeline._Frame.apply

    def counted(frame: timeline._Frame, step: timeline._Step) -> None:
        nonlocal steps
        steps += 1
        apply(frame, step)

    monkeypatch.setattr(timeline._Frame, "apply", counted)
    assert line.moment(20_000).counts == {S.ACCEPTED: 6665, S.REVIEW: 1, S.READY: 3334}
    assert steps <= timeline.KEYFRAME
