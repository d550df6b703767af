"""What money went to: rows by whatever tells them apart, corrections in their place, workers' hours."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from chimera.core import usage as room
from chimera.core.event import Event
from chimera.core.report import as_csv, rows_of
from chimera.core.usage import NOT_KNOWN, OTHERS, By, Usage, Use, WorkerHours
from tests.core.ledgers import START, Book

LATER = START + timedelta(days=9)


def used(events: list[Event], *by: By, since: datetime = START, mission: str = "") -> Usage:
    usage = Usage(by, since, LATER, "acme", mission)
    for event in events:
        usage.take(event)
    return usage


def test_rows_are_told_apart_by_any_combination() -> None:
    book = Book()
    book.call(5, "m1.0", agent="writer", model="gpt")
    book.call(7, "m2.0", agent="writer", model="small")
    book.wait(days=1)
    book.call(11, "m2.1", agent="judge", model="small")
    rows = used(book.events, By.DAY, By.MODEL).rows
    assert {key: use.cost_microusd for key, use in rows.items()} == {
        ("2026-11-28", "gpt"): 5,
        ("2026-11-28", "small"): 7,
        ("2026-11-29", "small"): 11,
    }
    assert {key: use.cost_microusd for key, use in used(book.events, By.MISSION).rows.items()} == {
        ("m1",): 5,
        ("m2",): 18,
    }
    assert used(book.events, By.TENANT, By.AGENT).rows[("acme", "judge")].cost_microusd == 11
    assert used(book.events, By.MODEL, mission="m1").total.cost_microusd == 5


def test_what_the_tenant_alone_pays_has_a_row_of_its_own() -> None:
    book = Book()
    book.call(3, task="")
    book.call(4, task="m1")
    rows = used(book.events, By.MISSION).rows
    assert {key: use.cost_microusd for key, use in rows.items()} == {("(no mission)",): 3, ("m1",): 4}


def test_tokens_are_added_up_by_class() -> None:
    book = Book()
    for _ in range(2):
        book.call(5, input_tokens=10, cached_tokens=4, output_tokens=6, reasoning_tokens=3)
    total = used(book.events, By.MODEL).total
    tokens = (total.input_tokens, total.cached_tokens, total.output_tokens, total.reasoning_tokens)
    assert (total.calls, tokens) == (2, (20, 8, 12, 6))


def test_a_late_settlement_takes_the_place_of_the_guess() -> None:
    book = Book()
    hold = book.hold(amount=100)
    book.expire(hold, 100)
    before = used(book.events, By.MODEL).total
    assert (before.cost_microusd, before.calls, before.estimated) == (100, 1, 1)
    book.wait(minutes=10)
    book.settle(hold, 30, input_tokens=8)
    after = used(book.events, By.MODEL).total
    assert (after.cost_microusd, after.calls, after.estimated, after.input_tokens) == (30, 1, 0, 8)


def test_a_hold_that_was_never_sent_is_no_call() -> None:
    book = Book()
    book.expire(book.hold(amount=100), 0)
    book.note("spend.released", "m1.0", hold=book.hold(amount=100))
    total = used(book.events, By.MODEL).total
    assert (total.cost_microusd, total.calls, total.estimated) == (0, 0, 0)


def test_refusals_and_overruns_are_counted() -> None:
    book = Book()
    book.note("spend.refused", "m1.0", kind="window", level="tenant/day", amount=9, agent="a", model="m")
    book.settle(book.hold(amount=10), 15, over=5)
    total = used(book.events, By.MODEL).total
    assert (total.refused, total.over_microusd, total.cost_microusd) == (1, 5, 15)


def test_what_lies_before_the_span_tells_whose_a_charge_in_it_is() -> None:
    book = Book()
    hold = book.hold(amount=10, agent="writer")
    book.wait(hours=2)
    book.settle(hold, 8)
    rows = used(book.events, By.AGENT, since=START + timedelta(hours=1)).rows
    assert rows[("writer",)].cost_microusd == 8
    assert used(book.events, By.AGENT, since=START + timedelta(hours=3)).rows == {}


def test_a_charge_of_before_agents_were_recorded_has_a_row_that_says_so() -> None:
    book = Book()
    book.note("spend.held", "m1.0", hold="old", amount=10)
    book.settle("old", 8)
    assert used(book.events, By.AGENT).rows[(NOT_KNOWN,)].cost_microusd == 8
    assert ("m",) in used(book.events, By.MODEL).rows, "the charge itself names the model"


def test_rows_are_bounded_and_the_rest_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_ROWS", 3)
    book = Book()
    for number in range(9):
        book.call(1, f"m{number}.0")
    usage = used(book.events, By.MISSION)
    assert len(usage.rows) == 4
    assert (usage.rows[(OTHERS,)].cost_microusd, usage.folded, usage.total.cost_microusd) == (6, 6, 9)


@pytest.mark.parametrize("tokens", [-1, 1.5, "9", None, 10**20, True])
def test_a_count_that_can_be_none_is_passed_over(tokens: object) -> None:
    book = Book()
    book.call(5, input_tokens=tokens)
    assert used(book.events, By.MODEL).total.input_tokens == 0


def test_a_charge_that_is_no_account_changes_nothing_but_the_cost() -> None:
    book = Book()
    for text in ("", "no json", "[1]"):
        book.note("spend.settled", "m1.0", hold=book.hold(), cost=3, charge=text)
    assert used(book.events, By.MODEL).rows[("m",)].cost_microusd == 9


def test_csv_has_a_line_a_row_and_no_formulas() -> None:
    rows = rows_of({("=cmd()", "2026-11-28"): Use(cost_microusd=1_500_000, calls=2)}, (By.MODEL, By.DAY))
    header, line = as_csv(rows, (By.MODEL, By.DAY))
    assert header.startswith("model,day,cost_microusd,cost_usd,calls,")
    assert line.startswith("'=cmd(),2026-11-28,1500000,1.500000,2,")


def hours(events: list[Event], alive: list[str], until: datetime = LATER) -> WorkerHours:
    found = WorkerHours(START, until)
    for event in events:
        found.take(event)
    found.finish(alive, LATER)
    return found


def test_workers_hours_run_from_their_start_to_their_end() -> None:
    book = Book()
    book.note("worker.started", worker="w1", slots=16)
    book.wait(hours=2)
    book.note("worker.started", worker="w2", slots=16)
    book.wait(hours=1)
    book.note("worker.ended", worker="w1", reason="died")
    found = hours(book.events, [], until=START + timedelta(hours=5))
    assert (found.seconds / 3600, found.spans, found.guessed) == (3 + 3, 2, 0)


def test_workers_that_were_there_before_count_from_the_spans_beginning() -> None:
    book = Book()
    book.wait(hours=1)
    book.note("worker.ended", worker="old", reason="idle")
    found = hours(book.events, ["silent"], until=START + timedelta(hours=4))
    assert (found.seconds / 3600, found.spans, found.guessed) == (1 + 4, 0, 2)


def test_workers_outside_the_span_do_not_count() -> None:
    book = Book(START - timedelta(hours=3))
    book.note("worker.started", worker="w", slots=1)
    book.wait(hours=1)
    book.note("worker.ended", worker="w", reason="idle")
    assert hours(book.events, []).seconds == 0
