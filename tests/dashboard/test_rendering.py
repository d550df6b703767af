"""Figures and instants as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from chimera.dashboard.rendering import render
from chimera.dashboard.words import count, instant, percent, plural, span, tally, usd


@pytest.mark.parametrize(
    ("microusd", "text"),
    [(0, "$0.00"), (12, "$0.000012"), (1_500, "$0.0015"), (250_000, "$0.25"), (1_234_560_000, "$1,234.56")],
)
def test_money_shows_the_digits_that_tell_something(microusd: int, text: str) -> None:
    assert usd(microusd) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (12, "12 s"),
        (119, "119 s"),
        (180, "3 min"),
        (19_200, "5 h 20 min"),
        (7_200, "2 h"),
        (400_000, "4 d"),
    ],
)
def test_a_span_has_two_figures_at_most(seconds: float, text: str) -> None:
    assert span(seconds).replace("\u202f", " ") == text


def test_a_share_that_is_not_all_is_never_shown_as_all() -> None:
    assert percent(0.9999).replace("\u202f", " ") == "99 %"
    assert percent(0.99999, 2).replace("\u202f", " ") == "99.99 %"
    assert percent(1).replace("\u202f", " ") == "100 %"


def test_numbers_are_grouped_and_nouns_agree() -> None:
    assert count(1_234_567) == "1,234,567"
    assert (plural(1, "worker"), plural(2, "worker"), plural(0, "entry", "entries")) == (
        "1 worker",
        "2 workers",
        "0 entries",
    )


def test_what_went_wrong_agrees_with_its_number() -> None:
    assert tally("judge_errors", 1) == "1 judge error"
    assert tally("crashes", 1) == "1 crash"
    assert tally("rejections", 1_200) == "1,200 rejections"
    assert tally("stale", 2) == "2 stale"


def test_an_instant_carries_utc_for_scripts_and_for_those_without() -> None:
    at = datetime(2026, 11, 29, 1, 2, 3, tzinfo=timezone(timedelta(hours=1)))
    assert instant(at) == '<time datetime="2026-11-29T00:02:03.000+00:00">2026-11-29 00:02:03 UTC</time>'
    assert instant(None) == "never"
    assert datetime.now(UTC).strftime("%Y") in instant(datetime.now(UTC))


def test_what_is_shown_is_escaped() -> None:
    text = render("error.html", title="<b>", status=404, detail="<script>", problems=("<i>",), request_id="r")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<i>" not in text
