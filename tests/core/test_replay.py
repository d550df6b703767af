"""The ledger replayed: every level's figures, what cannot be, what may be forgotten, what the store lost."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from chimera.core.audit import Cut, drifts
from chimera.core.calendar import window_id
from chimera.core.event import Event
from chimera.core.money import Window
from chimera.core.replay import Replay, surviving
from tests.core.ledgers import START, Book


def replayed(events: list[Event], **how: object) -> Replay:
    replay = Replay(**how)  # type: ignore[arg-type]  # (what a test gives by name)
    for event in events:
        replay.take(event)
    return replay


def test_a_charge_counts_for_tenant_agent_model_and_mission() -> None:
    book = Book()
    book.call(40, agent="writer", model="gpt")
    book.hold("m2.0", 7, agent="writer", model="other")
    replay = replayed(book.events)
    day = window_id(Window.DAY, START)
    assert {subject: replay.settled[subject, day] for subject in ("", "agent/writer", "model/gpt")} == {
        "": 40,
        "agent/writer": 40,
        "model/gpt": 40,
    }
    assert replay.held == {"": 7, "agent/writer": 7, "model/gpt": 0, "model/other": 7}
    assert (replay.spent["m1"], replay.mission_held["m2"]) == (40, 7)
    assert replay.wrong == []


def test_a_call_of_no_task_counts_for_its_mission_or_the_tenant_alone() -> None:
    book = Book()
    book.call(40, task="m1")
    book.call(2, task="")
    replay = replayed(book.events)
    assert replay.spent == {"m1": 40}
    assert replay.settled["", "lifetime"] == 42


def test_what_was_charged_too_much_goes_back_to_the_window_it_was_charged_to() -> None:
    book = Book(START.replace(hour=23, minute=30))
    hold = book.hold(amount=100)
    book.expire(hold, 100)
    book.wait(minutes=50)  # the next day
    book.settle(hold, 30)
    replay = replayed(book.events)
    assert replay.settled["", "day:2026-11-28"] == 30
    assert replay.settled["", "day:2026-11-29"] == 0


@pytest.mark.parametrize(
    ("limit", "subject"),
    [("day", "the tenant's limit a day"), ("agent/a/day", "agent/a"), ("model/m/lifetime", "model/m")],
)
def test_a_grant_over_a_limit_is_found_at_every_level(limit: str, subject: str) -> None:
    book = Book()
    book.note("limits.set", limits={limit: 150}, reason="", raised=1)
    book.call(100)
    book.hold(amount=50)
    assert replayed(book.events).wrong == []
    book.hold(amount=1)
    (said,) = replayed(book.events).wrong
    assert subject in said
    assert "100 settled and 51 held of 150" in said


def test_a_limit_of_another_agent_binds_nobody_else() -> None:
    book = Book()
    book.note("limits.set", limits={"agent/b/day": 1, "model/n/day": 1}, reason="", raised=0)
    book.call(100)
    assert replayed(book.events).wrong == []


def test_limits_as_older_entries_have_them_are_read_too() -> None:
    book = Book()
    book.note("limits.set", day=5)
    assert replayed(book.events).limits == {"day": 5}


def test_an_overrun_that_says_so_is_charged_and_one_that_does_not_is_wrong() -> None:
    book = Book()
    book.settle(book.hold(amount=10), 15, over=5)
    assert replayed(book.events).wrong == []
    book.settle(book.hold(amount=10), 15)
    (said,) = replayed(book.events).wrong
    assert re.search(r"charges 15 to a hold of 10", said)


def test_memory_is_bounded_by_what_may_still_be_corrected() -> None:
    book = Book()
    for _ in range(300):
        book.call(1)
        book.wait(minutes=10)
    replay, kept = replayed(book.events), replayed(book.events, keep=True)
    assert len(replay.holds) < 20
    assert len(kept.holds) == 300
    assert len(replay.settled) < len(kept.settled) / 2
    assert replay.settled["", "lifetime"] == kept.settled["", "lifetime"] == 300


def test_a_hold_that_runs_out_is_remembered_as_long_as_it_may_be_corrected() -> None:
    book = Book()
    hold = book.hold(amount=100)
    book.expire(hold, 100)
    for _ in range(11):
        book.wait(minutes=5)
        book.call(1)
    book.settle(hold, 30)
    replay = replayed(book.events)
    assert replay.wrong == []
    assert replay.settled["", "lifetime"] == 41


def test_without_sums_the_same_is_charged_entry_by_entry() -> None:
    book = Book()
    book.note("limits.set", limits={"day": 1}, reason="", raised=0)
    hold = book.hold(amount=100)
    book.expire(hold, 100)
    book.call(7)
    book.wait(minutes=5)
    book.settle(hold, 30)
    whole, bare = Replay(), Replay(sums=False)
    for event in book.events:
        ours, theirs = whole.take(event), bare.take(event)
        assert (ours is None) == (theirs is None)
        assert ours is None or theirs is None or (ours.at, ours.amount) == (theirs.at, theirs.amount)
    assert (len(whole.wrong), bare.wrong, bare.settled) == (2, [], {})


def test_only_the_missions_that_are_asked_for_are_kept() -> None:
    book = Book()
    book.call(1, "m1.0")
    book.call(2, "m2.0")
    assert replayed(book.events, missions=frozenset({"m2"})).spent == {"m2": 2}


def test_what_the_store_lost_in_a_restart_is_not_in_its_ledger() -> None:
    book = Book()
    book.call(1)
    kept = book.seq
    book.call(10)  # archived, and lost
    book.epoch, book.seq = 2, kept
    book.note("recorder.epoch", epoch=2, after=kept, lost=2)
    book.call(100)
    replay = replayed(list(surviving(book.events)))
    assert replay.settled["", "lifetime"] == 101


def test_a_cut_agrees_with_the_replay_or_says_which_figure_does_not() -> None:
    book = Book()
    book.call(40)
    replay = replayed(book.events)
    figures = {f"settled:{one}": 40 for _, one in replay.settled if _ == ""} | {"held": 0}
    figures["calls"] = 1
    own = {"": figures, "agent/a": figures, "model/m": figures}
    cut = Cut(seq=2, at=START + timedelta(seconds=1), subjects=own, missions={"m1": (40, 0)}, holds=())
    assert drifts(replay, cut).drifts == ()
    assert drifts(replay, cut).checked > 20
    bad = cut.model_copy(update={"subjects": {**own, "model/m": {**own["model/m"], "settled:year:2026": 39}}})
    (drift,) = drifts(replay, bad).drifts
    assert str(drift) == "model/m year:2026: 39 in the ledger, 40 recorded (-1)"
    gone = cut.model_copy(update={"subjects": {"": figures, "agent/a": own["agent/a"]}})
    assert {one.level for one in drifts(replay, gone).drifts} == {"model/m"}
    part = gone.model_copy(update={"whole": False})
    assert drifts(replay, part).drifts == ()


def test_minutes_that_are_long_over_are_compared_by_neither_side() -> None:
    book = Book()
    book.call(40)
    book.wait(hours=5)
    book.call(2)
    replay = replayed(book.events)
    figures = {f"settled:{one}": cost for (who, one), cost in replay.settled.items() if who == ""}
    figures["calls"] = 2
    figures.pop("settled:minute:2026-11-28T10:00", None)
    cut = Cut(seq=4, at=book.now, subjects={"": figures}, whole=False)
    assert drifts(replay, cut).drifts == ()
    figures["settled:minute:2026-11-28T10:00"] = 1
    assert drifts(replay, cut).drifts == ()
