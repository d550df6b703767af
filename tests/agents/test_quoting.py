"""Answers that quote: what a text offers to be copied."""

from __future__ import annotations

from chimera.agents import quoting

TEXT = """# The harbour

[![build](https://x.example/b.svg)](https://x.example)

The harbour opens at six in the morning. It closes when the
last boat is in!

```sh
make everything that stands here quickly
```

- Boats above ten tonnes pay by the day.

| a table | of no prose at all here |
"""


def test_sentences_are_prose_joined_over_lines() -> None:
    assert quoting.sentences(TEXT) == [
        "The harbour opens at six in the morning.",
        "It closes when the last boat is in!",
        "Boats above ten tonnes pay by the day.",
    ]


def test_a_text_without_prose_is_quoted_by_the_line() -> None:
    assert quoting.sentences("# A heading of some length here\n\nShort.") == ["A heading of some length here"]


def test_words_are_told_once_and_common_ones_left_out() -> None:
    found = quoting.words("The Harbour opens; the harbour closes with a bang")
    assert found == ["Harbour", "opens", "closes", "bang"]


def test_lines_lose_their_marks() -> None:
    assert quoting.lines("## Part two\n\n- item\n" + "x" * 81) == ["Part two", "item"]


def test_a_schema_is_narrowed_to_the_tasks_own_text() -> None:
    schema = {
        "type": "object",
        "properties": {
            "sentence": {"type": "string", "x-copy-from": "input.text"},
            "tags": {"type": "array", "items": {"x-copy-from": "input.text", "x-copy-unit": "word"}},
            "free": {"type": "string"},
            "absent": {"type": "string", "minLength": 1, "x-copy-from": "input.nothing"},
        },
    }
    narrowed = quoting.narrow(schema, {"input.text": TEXT}.get)["properties"]
    assert narrowed["sentence"] == {"type": "string", "enum": quoting.sentences(TEXT)}
    assert narrowed["tags"]["items"]["enum"] == quoting.words(TEXT)
    assert narrowed["free"] == {"type": "string"}
    assert narrowed["absent"] == {"type": "string", "minLength": 1}


def test_wrong_units_are_found_at_submit() -> None:
    schema = {
        "properties": {"a": {"x-copy-from": "input", "x-copy-unit": "page"}, "b": {"x-copy-unit": "word"}}
    }
    first, second = quoting.problems(schema)
    assert first == "output_schema.properties.a: x-copy-unit is one of sentence, word, line"
    assert second == "output_schema.properties.b: x-copy-unit needs x-copy-from, for example input.text"


def test_repeats_are_dropped_where_the_schema_says_unique() -> None:
    schema = {"properties": {"a": {"uniqueItems": True}, "b": {"type": "array"}}}
    answer = {"a": ["x", "y", "x"], "b": ["x", "x"]}
    assert quoting.without_repeats(answer, schema) == {"a": ["x", "y"], "b": ["x", "x"]}
