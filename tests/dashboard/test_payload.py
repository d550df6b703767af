"""Payloads for people: everything is seen, nothing runs, nothing is endless."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chimera.dashboard.payload import DEEPEST_INDENT, SHOWN_CHARS, line, payload, seen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 日本 שלום", "plain ünïcode 日本 שלום"),
        ("a\tb\nc\r\nd", "a\tb\nc\nd"),
        ("a\x00b\x1b[31m", "a⟦U+0000⟧b⟦U+001B⟧[31m"),
        ("safe\u202egnp.exe", "safe⟦U+202E⟧gnp.exe"),
        ("\u2066x\u2069\u200f\u200b\ufeff", "⟦U+2066⟧x⟦U+2069⟧⟦U+200F⟧⟦U+200B⟧⟦U+FEFF⟧"),
        ("over\rwritten", "over⟦U+000D⟧written"),
        ("\ud800half", "⟦U+D800⟧half"),
        ("tag\U000e0041", "tag⟦U+E0041⟧"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_what_shows_nothing_or_turns_the_order_of_text_stands_as_its_number(text: str, shown: str) -> None:
    assert seen(text) == shown
    assert payload(text).text == shown
    shown.encode()  # it can be sent


def test_a_string_is_text_and_anything_else_is_json_laid_out() -> None:
    assert payload("<b>x</b>").kind == "text"
    value: dict[str, Any] = {"a": [1, 2.5, None, True], "b": {}, "c": [], "d": {"é": "x\ny"}}
    found = payload(value)
    assert (found.kind, found.cut) == ("json", False)
    assert found.text == json.dumps(value, ensure_ascii=False, indent=2)
    assert json.loads(found.text) == value


def test_a_document_as_deep_as_it_likes_is_laid_out_and_cut() -> None:
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]
    found = payload(deep)
    assert found.cut
    assert found.chars <= SHOWN_CHARS
    assert max(len(one) - len(one.lstrip()) for one in found.text.splitlines()) == 2 * DEEPEST_INDENT


def test_a_text_of_a_mebibyte_is_cut_and_says_how_long_it_is() -> None:
    found = payload("\x00" * 1_048_576)
    assert (found.cut, found.chars) == (True, 1_048_576)
    assert len(found.text) == SHOWN_CHARS * len("⟦U+0000⟧")


def test_what_is_long_is_folded_and_what_is_short_is_not() -> None:
    assert not payload("short").long
    assert payload("x\n" * 30).long
    assert payload("x" * 3_000).long


def test_a_line_is_one_line_however_much_it_is_made_of() -> None:
    assert line("a\n b\t\tc", 10) == "a b c"
    assert line("x" * 100, 10) == "x" * 9 + "…"
    assert line(" " * 1_000 + "hidden", 10).endswith("…")
