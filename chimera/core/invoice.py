"""A provider's invoice against the charges that were recorded. Pure.

By request where the invoice names them, else by day and model; lines of CSV and charges go in one at a time.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import Field

from chimera.core.money import MICRO
from chimera.core.replay import Change
from chimera.core.views import View
from chimera.errors import InvalidRequest

MOST_LINES = 2_000_000
MOST_NAMED = 5
"""Lines of the invoice that are named with one difference."""
MOST_LISTED = 100
"""Differences of each kind that are named; more are counted."""
HEADERS: Mapping[str, tuple[str, ...]] = {
    "id": ("request_id", "provider_request_id", "response_id", "generation_id", "completion_id", "id"),
    "day": (
        "date",
        "day",
        "timestamp",
        "created_at",
        "usage_date",
        "start_time",
        "time",
        "datetime",
        "created",
    ),
    "model": ("model", "model_name", "model_id", "model_permaslug", "sku"),
    "amount": (
        "cost_usd",
        "amount_usd",
        "cost",
        "amount",
        "amount_value",
        "cost_total",
        "total_cost",
        "total",
    ),
    "currency": ("currency", "amount_currency"),
}
"""What a column may be called, by what it is: the first that is there is taken, whatever its case."""
NEEDED = ("amount",)
_AMOUNT = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
"""As English writes it, a comma before each three digits: "0,52" is half a dollar elsewhere, and not 52."""
FIRST_YEAR, LAST_YEAR = 1970, 9_000
_SNAPSHOT = re.compile(r"-(20\d\d-\d\d-\d\d|20\d{6})$")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice. The amount is µ$, unrounded; a credit is below 0."""

    number: int
    request_id: str
    day: date | None
    model: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What may differ: µ$, or a share of the invoice's figure, whichever is more.

    Beside it 1 µ$ for each call: the ledger rounds up.
    """

    microusd: Decimal = Decimal(0)
    share: Decimal = Decimal(0)

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """``0.01`` (USD) or ``0.5%``. Raises ValueError."""
        try:
            amount = Decimal(text.strip().removesuffix("%").removeprefix("$"))
        except InvalidOperation as exc:
            raise ValueError(f"{text!r} is no tolerance: write USD as 0.01, or a share as 0.5%") from exc
        if not amount.is_finite() or amount < 0:
            raise ValueError(f"{text!r} is no tolerance: it is 0 or more")
        return cls(share=amount / 100) if text.strip().endswith("%") else cls(microusd=amount * MICRO)

    def allows(self, difference: Decimal, invoiced: Decimal, calls: int) -> bool:
        """Whether so much may differ."""
        return abs(difference) <= max(self.microusd, abs(invoiced) * self.share) + calls


class Difference(View):
    """Something that stands on one side only, or differs."""

    what: str = Field(description="A request's id; or a day, a model, or both.")
    lines: tuple[int, ...] = Field((), description="Where on the invoice; the first few.")
    invoice_usd: Decimal | None = None
    ledger_usd: Decimal | None = None


class Comparison(View):
    """What comparing an invoice with the ledger showed."""

    by: str = Field(description="request id, day and model, or day.")
    since: date | None = Field(description="The invoice's first day; charges before it are passed over.")
    until: date | None = Field(description="Its last day.")
    lines: int
    charges: int = Field(description="Charges of the ledger that were compared.")
    matched: int = Field(description="Requests, or days and models, that agree within the tolerance.")
    invoice_usd: Decimal
    ledger_usd: Decimal
    only_invoice: tuple[Difference, ...]
    only_ledger: tuple[Difference, ...]
    differs: tuple[Difference, ...]
    more: int = Field(0, description="Differences that are not listed.")
    without_id_usd: Decimal = Field(
        Decimal(0),
        description="Of the ledger's charges those that bear no request id: what they cost is not known, and "
        "they were charged at their worst case.",
    )
    within: bool = Field(description="Nothing differs beyond the tolerance.")


def read(
    lines: Iterable[str],
    columns: Mapping[str, str] | None = None,
    *,
    aliases: Mapping[str, str] | None = None,
    date_format: str = "",
) -> Iterator[Line]:
    """The lines of an invoice.

    Args:
        columns: what is where: ``id``, ``day``, ``model``, ``amount``, ``currency`` → the column's header.
            What is not named is found by `HEADERS`.
        aliases: the invoice's name of a model → the ledger's.
        date_format: as `strptime` has it; else ISO 8601, or seconds since 1970.
    Raises:
        InvalidRequest: it cannot be used; names the line.
    """
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise InvalidRequest("the invoice is empty: its first line must name its columns")
        header[0] = header[0].removeprefix("\ufeff")
        places = _places(header, columns or {})
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if reader.line_num > MOST_LINES:
                raise InvalidRequest(f"the invoice has more than {MOST_LINES:,} lines: split it by day")
            yield _line(reader.line_num, row, header, places, aliases or {}, date_format)
    except csv.Error as exc:
        raise InvalidRequest(f"line {reader.line_num}: it is no CSV ({exc})") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"after line {reader.line_num}: it is no text in UTF-8") from exc


def _places(header: Sequence[str], columns: Mapping[str, str]) -> dict[str, int]:
    names = [_plain(name) for name in header]
    shown = ", ".join(header)
    places: dict[str, int] = {}
    for what, known in HEADERS.items():
        if named := columns.get(what):
            if _plain(named) not in names:
                raise InvalidRequest(f"line 1: the invoice has no column {named!r}: it has {shown}")
            places[what] = names.index(_plain(named))
        elif found := next((name for name in known if name in names), None):
            places[what] = names.index(found)
    if "amount" not in places:
        raise InvalidRequest(
            f"line 1: no column is known to be the amount: name it (amount=COLUMN) of {shown}"
        )
    if "id" not in places and "day" not in places:
        raise InvalidRequest(
            f"line 1: neither request ids nor days are known: name a column (id=COLUMN, day=COLUMN) of "
            f"{shown}"
        )
    return places


def _plain(name: str) -> str:
    return re.sub(r"[\s\-.()]+", "_", name.strip().lower()).strip("_")


def _line(
    number: int,
    row: Sequence[str],
    header: Sequence[str],
    places: Mapping[str, int],
    aliases: Mapping[str, str],
    date_format: str,
) -> Line:
    def cell(what: str) -> str:
        place = places.get(what)
        if place is None:
            return ""
        if place >= len(row):
            raise InvalidRequest(
                f"line {number}: it has {len(row)} cells, column {header[place]!r} is missing"
            )
        return row[place].strip()

    currency = cell("currency").upper()
    if currency not in {"", "USD", "US$", "$"}:
        raise InvalidRequest(f"line {number}: its currency is {currency}: the ledger is in USD")
    day = _day(cell("day"), number, date_format) if "day" in places else None
    request_id = cell("id")
    if not request_id and day is None:
        raise InvalidRequest(f"line {number}: it has neither a request's id nor a day")
    named = cell("model")
    return Line(
        number, request_id, day, model_name(aliases.get(named, named)), _amount(cell("amount"), number)
    )


def _amount(text: str, number: int) -> Decimal:
    plain = text.replace("$", "").replace("USD", "").strip()
    if plain.startswith("(") and plain.endswith(")"):
        plain = f"-{plain[1:-1]}"
    try:
        amount = Decimal(plain.replace(",", ""))
    except InvalidOperation as exc:
        raise InvalidRequest(f"line {number}: {text!r} is no amount in USD") from exc
    if not _AMOUNT.fullmatch(plain) or abs(amount) > 10**12:
        raise InvalidRequest(f"line {number}: {text!r} is no amount in USD")
    return amount * MICRO


def _day(text: str, number: int, date_format: str) -> date:
    try:
        if date_format:
            at = datetime.strptime(text, date_format)
        elif re.fullmatch(r"\d{9,11}(\.\d+)?", text):
            at = datetime.fromtimestamp(float(text), UTC)
        else:
            at = datetime.fromisoformat(text)
        day = (at.astimezone(UTC) if at.tzinfo else at).date()
        if not FIRST_YEAR <= day.year <= LAST_YEAR:
            raise ValueError(text)
    except (ValueError, OverflowError) as exc:
        how = (
            f"the format {date_format!r} says" if date_format else "ISO 8601 (2026-11-28), or name its format"
        )
        raise InvalidRequest(f"line {number}: {text!r} is no day as {how}") from exc
    return day


def model_name(name: str) -> str:
    """A model's name as both sides write it: without a provider before it, or a snapshot's day behind it."""
    return _SNAPSHOT.sub("", name.strip().lower().rpartition("/")[2])


@dataclass
class _Pair:
    invoice: Decimal | None = None
    ledger: Decimal | None = None
    calls: int = 0
    lines: list[int] = field(default_factory=list)


@dataclass
class Comparing:
    """An invoice, to be compared with charges as they come.

    Args:
        since, until: days of the ledger that count; None: the invoice's own first and last.
    """

    tolerance: Tolerance
    since: date | None = None
    until: date | None = None
    _pairs: dict[str, _Pair] = field(default_factory=dict)
    _models: bool = False
    _ids: bool = False
    _lines: int = 0
    _charges: int = 0
    _without: Decimal = Decimal(0)
    _ledger: Decimal = Decimal(0)
    """Of charges whose ids the invoice does not name; the next three likewise."""
    _matched: int = 0
    _beyond: int = 0
    _only_ledger: list[Difference] = field(default_factory=list)
    _open: dict[str, tuple[str, int]] = field(default_factory=dict)

    def invoiced(self, lines: Iterable[Line]) -> None:
        """The whole invoice, before any charge. Raises as `read` does."""
        first: date | None = None
        last: date | None = None
        for one in lines:
            self._lines += 1
            self._ids = self._ids or bool(one.request_id)
            self._models = self._models or bool(one.model)
            if one.day is not None:
                first, last = min(first or one.day, one.day), max(last or one.day, one.day)
            pair = self._pairs.setdefault(one.request_id or _by_day(one.day, one.model), _Pair())
            pair.invoice = (pair.invoice or Decimal(0)) + one.amount
            if len(pair.lines) < MOST_NAMED:
                pair.lines.append(one.number)
        self.since, self.until = self.since or first, self.until or last

    def take(self, change: Change) -> None:
        """One change of the ledger. What a call really cost takes the place of what was charged first."""
        charge: Mapping[str, Any] = change.charge or {}
        name, day = str(change.event.details.get("hold", "")), change.at.date()
        if not change.first and (before := self._open.pop(name, None)) is not None:
            self._count(before[0], -before[1], calls=-1, without=True)
        cost = change.hold.charged or 0
        if not cost:
            return
        model = model_name(str(charge.get("model", "")) or change.hold.model)
        request_id = str(charge.get("provider_request_id", ""))
        known = bool(request_id) and self._ids
        key = request_id if known else _by_day(day, model if self._models else "")
        if known and key not in self._pairs:
            # Nothing else will bear this id: it is counted, not kept.
            if self._within(day):
                self._alone(key, cost)
            return
        if not known and not self._within(day):
            return
        if change.event.kind == "spend.expired":
            self._open[name] = key, cost
        self._count(key, cost, calls=1, without=self._ids and not known)

    def _alone(self, what: str, cost: int) -> None:
        self._charges += 1
        self._ledger += cost
        if self.tolerance.allows(Decimal(cost), Decimal(0), 1):
            self._matched += 1
            return
        self._beyond += 1
        if len(self._only_ledger) < MOST_LISTED:
            self._only_ledger.append(Difference(what=what, ledger_usd=_usd(Decimal(cost))))

    def _count(self, key: str, cost: int, *, calls: int, without: bool) -> None:
        pair = self._pairs.setdefault(key, _Pair())
        pair.ledger = (pair.ledger or Decimal(0)) + cost
        pair.calls += calls
        self._charges += calls
        if without:
            self._without += cost

    def result(self) -> Comparison:
        """What it all comes to."""
        only_invoice: list[Difference] = []
        only_ledger = list(self._only_ledger)
        differs: list[Difference] = []
        matched, beyond = self._matched, self._beyond
        for what, pair in sorted(self._pairs.items()):
            invoiced, charged = pair.invoice or Decimal(0), pair.ledger or Decimal(0)
            if pair.invoice is None and not charged:
                continue
            if self.tolerance.allows(invoiced - charged, invoiced, pair.calls):
                matched += 1
                continue
            beyond += 1
            side = differs
            if pair.ledger is None or not pair.calls:
                side = only_invoice
            elif pair.invoice is None:
                side = only_ledger
            if len(side) < MOST_LISTED:
                side.append(
                    Difference(
                        what=what,
                        lines=tuple(pair.lines),
                        invoice_usd=None if pair.invoice is None else _usd(invoiced),
                        ledger_usd=None if pair.ledger is None else _usd(charged),
                    )
                )
        return Comparison(
            by="request id" if self._ids else "day and model" if self._models else "day",
            since=self.since,
            until=self.until,
            lines=self._lines,
            charges=self._charges,
            matched=matched,
            invoice_usd=_usd(sum((one.invoice or Decimal(0) for one in self._pairs.values()), Decimal(0))),
            ledger_usd=_usd(sum((one.ledger or Decimal(0) for one in self._pairs.values()), self._ledger)),
            only_invoice=tuple(only_invoice),
            only_ledger=tuple(only_ledger),
            differs=tuple(differs),
            more=beyond - len(only_invoice) - len(only_ledger) - len(differs),
            without_id_usd=_usd(self._without),
            within=not beyond,
        )

    def _within(self, day: date) -> bool:
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)


def _by_day(day: date | None, model: str) -> str:
    return " ".join(filter(None, (day.isoformat() if day else "(no day)", model)))


def _usd(microusd: Decimal) -> Decimal:
    return (microusd / MICRO).quantize(Decimal("0.000001"))
