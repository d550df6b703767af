"""Payloads: cut to a length, and nothing in them unseen."""

from __future__ import annotations

from chimera.dashboard.payload import payload, seen


def test_a_short_text_is_shown_as_it_is() -> None:
    shown = payload("Bread is baked twice.")
    assert (shown.line, shown.text, shown.folded, shown.cut) == (
        "Bread is baked twice.",
        "Bread is baked twice.",
        False,
        False,
    )


def test_a_value_is_laid_out_as_json() -> None:
    shown = payload({"a": [1, "ü"]})
    assert shown.line == '{"a": [1, "ü"]}'
    assert shown.text == '{\n  "a": [\n    1,\n    "ü"\n  ]\n}'
    assert shown.folded


def test_a_megabyte_is_cut_and_says_how_long_it_is() -> None:
    shown = payload("x" * 1_000_000)
    assert (len(shown.line), len(shown.text), shown.chars) == (160, 20_000, 1_000_000)
    assert shown.cut


def test_what_turns_text_around_or_cannot_be_seen_is_shown_as_its_number() -> None:
    assert seen("a\u202eb\u200bc\x1b[31m\ud800") == "a\\u202eb\\u200bc\\u001b[31m\\ud800"
    assert payload("tab\tand\nline").text == "tab\tand\nline"
    assert payload({"k\u202e": 1}).line == '{"k\\u202e": 1}'


def test_markup_stays_text_for_the_template_to_escape() -> None:
    assert type(payload("<b>x</b>").line) is str
