"""A provider's invoice against the ledger: by request, by day and model; one-sided, different, unreadable."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from chimera.core.invoice import Comparing, Comparison, Line, Tolerance, model_name, read
from chimera.core.replay import Replay
from chimera.errors import InvalidRequest
from tests.core.ledgers import START, Book


def lines(text: str, **how: object) -> list[Line]:
    return list(read(text.strip().splitlines(keepends=True), **how))  # type: ignore[arg-type]  # (what a test gives by name)


def compare(book: Book, text: str, tolerance: str = "0", **how: object) -> Comparison:
    comparing = Comparing(Tolerance.parse(tolerance))
    comparing.invoiced(lines(text, **how))
    replay = Replay()
    for event in book.events:
        if (change := replay.take(event)) is not None:
            comparing.take(change)
    return comparing.result()


def booked(*calls: tuple[str, int]) -> Book:
    book = Book()
    for request_id, cost in calls:
        book.call(cost, model="gpt-5-mini", provider_request_id=request_id)
    return book


def test_requests_are_matched_by_their_ids() -> None:
    book = booked(("r1", 1_000), ("r2", 2_500))
    found = compare(book, "request_id,model,cost\nr1,gpt-5-mini,0.001\nr2,gpt-5-mini,0.0025\n")
    assert (found.by, found.matched, found.charges, found.within) == ("request id", 2, 2, True)
    assert (found.invoice_usd, found.ledger_usd) == (Decimal("0.003500"), Decimal("0.003500"))


def test_what_stands_on_one_side_only_and_what_differs_is_listed() -> None:
    book = booked(("r1", 1_000), ("r2", 2_500))
    found = compare(book, "id,cost\nr1,0.002\nr3,0.5\n")
    assert not found.within
    assert [(one.what, one.lines) for one in found.only_invoice] == [("r3", (3,))]
    assert [one.what for one in found.only_ledger] == ["r2"]
    (differs,) = found.differs
    assert (differs.invoice_usd, differs.ledger_usd) == (Decimal("0.002"), Decimal("0.001"))


def test_a_request_on_several_lines_is_one() -> None:
    assert compare(booked(("r1", 1_000)), "id,cost\nr1,0.0004\nr1,0.0006\n").within


def test_without_ids_totals_of_days_and_models_are_compared() -> None:
    book = booked(("r1", 1_000), ("r2", 2_500))
    book.wait(days=1)
    book.call(4_000, model="gpt-5-mini")
    text = "date,model,amount\n2026-11-28,openai/gpt-5-mini-2025-08-07,$0.0035\n2026-11-29,gpt-5-mini,0.004\n"
    found = compare(book, text)
    assert (found.by, found.within, found.matched) == ("day and model", True, 2)
    assert (found.since, found.until) == (date(2026, 11, 28), date(2026, 11, 29))


def test_charges_outside_the_invoices_days_are_passed_over() -> None:
    book = booked(("r1", 1_000))
    book.wait(days=3)
    book.call(9_999, model="gpt-5-mini")
    assert compare(book, "date,model,amount\n2026-11-28,gpt-5-mini,0.001\n").within


@pytest.mark.parametrize(
    ("tolerance", "within"), [("0", False), ("0.0005", True), ("0.0001", False), ("25%", True), ("1%", False)]
)
def test_a_tolerance_is_money_or_a_share(tolerance: str, within: bool) -> None:
    assert compare(booked(("r1", 1_500)), "id,cost\nr1,0.002\n", tolerance).within is within


def test_a_call_may_be_rounded_up_by_the_ledger() -> None:
    assert compare(booked(("r1", 101)), "id,cost\nr1,0.0001002\n").within
    assert not compare(booked(("r1", 103)), "id,cost\nr1,0.0001002\n").within


def test_what_was_charged_at_its_worst_case_bears_no_id_and_is_told_apart() -> None:
    book = booked(("r1", 1_000))
    book.expire(book.hold(amount=500, model="gpt-5-mini"), 500)
    found = compare(book, "id,date,model,cost\nr1,2026-11-28,gpt-5-mini,0.001\n")
    assert found.without_id_usd == Decimal("0.0005")
    assert [one.what for one in found.only_ledger] == ["2026-11-28 gpt-5-mini"]


def test_a_late_settlement_is_matched_by_the_id_it_brings() -> None:
    book = Book()
    hold = book.hold(amount=500, model="gpt-5-mini")
    book.expire(hold, 500)
    book.wait(minutes=9)
    book.settle(hold, 200, model="gpt-5-mini", provider_request_id="r1")
    found = compare(book, "id,date,cost\nr1,2026-11-28,0.0002\n")
    assert (found.within, found.charges, found.without_id_usd) == (True, 1, Decimal(0))


def test_columns_are_found_by_name_or_named() -> None:
    text = "Usage Date;x\n"
    assert lines("Usage Date,Total Cost\n2026-11-28,1\n")[0].amount == 1_000_000
    named = lines(
        "when,what,price\n2026-11-28,gpt,2\n", columns={"day": "when", "model": "what", "amount": "price"}
    )
    assert named == [Line(2, "", date(2026, 11, 28), "gpt", Decimal(2_000_000))]
    with pytest.raises(InvalidRequest, match="line 1: no column is known to be the amount"):
        lines(text)


def test_models_are_named_as_the_ledger_does() -> None:
    assert model_name("openai/gpt-5-mini-2025-08-07") == model_name("GPT-5-mini") == "gpt-5-mini"
    (line,) = lines("date,model,cost\n2026-11-28,Big One,1\n", aliases={"Big One": "gpt-5"})
    assert line.model == "gpt-5"


@pytest.mark.parametrize(
    ("day", "date_format"),
    [
        ("2026-11-28", ""),
        ("2026-11-28T23:59:59Z", ""),
        ("2026-11-29T01:00:00+02:00", ""),
        (str(int((START + timedelta(hours=1)).timestamp())), ""),
        ("28/11/2026", "%d/%m/%Y"),
    ],
)
def test_days_are_read_as_they_are_written(day: str, date_format: str) -> None:
    (line,) = lines(f"date,cost\n{day},1\n", date_format=date_format)
    assert line.day == date(2026, 11, 28)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the invoice is empty"),
        ("model,cost\ngpt,1\n", "line 1: neither request ids nor days"),
        ("id,model\nr,gpt\n", "line 1: no column is known to be the amount"),
        ("id,cost\nr1,1\nr2,much\n", "line 3: 'much' is no amount"),
        ("id,cost\nr1,nan\n", "line 2: 'nan' is no amount"),
        ('id,cost\nr1,"0,52"\n', "line 2: '0,52' is no amount"),
        ('id,cost\nr1,"1.234,56"\n', "line 2: '1.234,56' is no amount"),
        ("id,cost\nr1,1_000\n", "line 2: '1_000' is no amount"),
        ("date,cost\n0001-01-01T00:00:00+23:00,1\n", "line 2: '0001-01-01.* is no day"),
        ("date,cost\n9999-12-31,1\n", "line 2: '9999-12-31' is no day"),
        ("id,cost\nr1\n", "line 2: it has 1 cells, column 'cost' is missing"),
        ("date,cost\n28.11.2026,1\n", r"line 2: '28\.11\.2026' is no day"),
        ("id,cost,currency\nr1,1,EUR\n", "line 2: its currency is EUR"),
        ("id,date,cost\n,,1\n", "line 2: '' is no day"),
        ('id,cost\n"r1,1\n', "line 2: it is no CSV"),
    ],
)
def test_bad_input_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        list(read(text.splitlines(keepends=True)))


@pytest.mark.parametrize("text", ["much", "-1", "nan", ""])
def test_a_tolerance_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no tolerance"):
        Tolerance.parse(text)


def test_credits_and_amounts_as_people_write_them_are_read() -> None:
    found = lines('id,cost\na,"$1,234.50"\nb,(2.00)\nc,-3\nd,1.5E-05\ne,.5\n')
    assert [line.amount for line in found] == [1_234_500_000, -2_000_000, -3_000_000, 15, 500_000]
