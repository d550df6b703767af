"""Templates reach the task's own data and nothing else."""

from __future__ import annotations

import pytest

from chimera.agents import template
from chimera.core.task import TaskContext

CONTEXT = TaskContext(
    goal="Count {input}",
    data={"audience": "owners", "deep": {"er": 1}},
    input={"text": "a {goal} b", "n": 3},
    inputs={"t1": {"ok": True}},
    feedback=("too long", "too short"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{goal}!", "Count {input}!"),
        ("{input.text}", "a {goal} b"),
        ("{input}", '{"text": "a {goal} b", "n": 3}'),
        ("{input.n}", "3"),
        ("{input.missing}", ""),
        ("{data.audience} {data.deep.er}", "owners 1"),
        ("{inputs}", '{"t1": {"ok": true}}'),
        ("{feedback}", "too long\ntoo short"),
        ("{{goal}}", "{goal}"),
        ("no names", "no names"),
    ],
)
def test_it_fills_in(text: str, expected: str) -> None:
    assert template.render(text, CONTEXT) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{goal.__class__}",
        "{input!r}",
        "{goal:>100}",
        "{0}",
        "{}",
        "{inputt}",
        "{input[0]}",
        "{input.}",
        "{",
        "a } b",
    ],
)
def test_it_refuses_tricks_and_unknown_names(text: str) -> None:
    assert template.problems(text)
    with pytest.raises(ValueError, match=r"placeholder|write it twice"):
        template.render(text, CONTEXT)


def test_dunder_fields_are_keys_of_the_data_and_no_attributes() -> None:
    assert template.render("{input.__class__}", CONTEXT) == ""
    assert template.render("{input.__class__}", TaskContext(goal="g", input=[1])) == ""


def test_a_text_input_stands_as_it_is() -> None:
    assert template.render("{input}{inputs}{feedback}", TaskContext(goal="g", input="plain")) == "plain"
