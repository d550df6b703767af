"""Arguments: a template in JSON, filled with events; what is wrong with one is said before the start."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from chimera.core.arguments import Arguments, Kinds, parse_headers
from chimera.core.event import KINDS, Event

EVENT = Event(
    epoch=2,
    seq=7,
    at=datetime(2026, 11, 29, tzinfo=UTC),
    kind="task.accepted",
    by="judge",
    mission_id="m1",
    task_id="m1.0",
    details={"confidence": 0.93, "empty": None, "by": {"name": "rules", "parts": [1, 2]}},
)


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ({"i": "{id}", "n": "{seq}"}, {"i": "acme/2/7", "n": 7}),
        ({"i": "{id}", "score": "{details.confidence}"}, {"i": "acme/2/7", "score": 0.93}),
        (
            {"i": "{id}", "t": "{kind} of {task_id}: {details.by}"},
            {"i": "acme/2/7", "t": "task.accepted of m1.0: " + json.dumps(EVENT.details["by"])},
        ),
        (
            {"i": "{id}", "deep": ["{details.by.name}", {"x": "{details.by.parts}"}]},
            {"i": "acme/2/7", "deep": ["rules", {"x": [1, 2]}]},
        ),
        (
            {"i": "{id}", "a": "{details.none}", "b": "{details.empty}", "c": ["{details.none}"]},
            {"i": "acme/2/7", "c": []},
        ),
        (
            {"i": "{id}", "a": "<{details.none}>", "fixed": {"n": 1, "t": True}},
            {"i": "acme/2/7", "a": "<>", "fixed": {"n": 1, "t": True}},
        ),
        ({"i": "{{{id}}} {{x}}"}, {"i": "{acme/2/7} {x}"}),
        ({"i": "{id}", "m": "{meaning}"}, {"i": "acme/2/7", "m": KINDS["task.accepted"]}),
    ],
)
def test_placeholders_are_filled(template: dict[str, Any], made: dict[str, Any]) -> None:
    arguments = Arguments.parse(json.dumps(template))
    assert not arguments.batched
    assert arguments.of("acme", [EVENT]) == made


def test_a_whole_event_has_its_id_and_its_tenant() -> None:
    made = Arguments.parse('{"e": "{event}"}').of("acme", [EVENT])["e"]
    assert made == {**EVENT.model_dump(mode="json"), "id": "acme/2/7", "tenant": "acme"}


def test_each_makes_a_list_of_many_events() -> None:
    arguments = Arguments.parse('{"of": "{tenant}", "n": "{count}", "list": [{"$each": {"id": "{id}"}}]}')
    other = EVENT.model_copy(update={"seq": 8})
    assert arguments.batched
    assert arguments.of("acme", [EVENT, other]) == {
        "of": "acme",
        "n": 2,
        "list": [[{"id": "acme/2/7"}, {"id": "acme/2/8"}]],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is no JSON"),
        ("[]", "write a JSON object"),
        ('{"$each": "{id}"}', "write a JSON object"),
        ('{"a": "{kind}"}', "put {id} or {event} somewhere"),
        ('{"a": {"$each": "{kind}"}, "b": "{tenant}"}', "put {id} or {event} somewhere"),
        ('{"a": "{id"}', "has a brace of no placeholder"),
        ('{"a": "{name} {id}"}', "there is no placeholder {name}"),
        ('{"a": "{id.x}"}', "there is no placeholder {id.x}"),
        ('{"a": "{details.} {id}"}', "there is no placeholder {details.}"),
        ('{"a": {"$each": "{id}"}, "b": "{kind}"}', "put it into $each"),
        ('{"a": {"$each": "{id}", "b": 1}}', "stands alone in its object"),
        ('{"a": {"$each": [{"$each": "{id}"}]}}', "not in another $each"),
        ('{"a": "{id}", "b": "{count}"}', "there is no $each"),
        ('{"a": ' + "[" * 30 + '"{id}"' + "]" * 30 + "}", "nested more than 20 deep"),
    ],
)
def test_a_template_that_cannot_work_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (the words are compared)
        Arguments.parse(text)
    assert said in str(raised.value)


def test_what_json_cannot_carry_is_made_to() -> None:
    odd = EVENT.model_copy(update={"details": {"text": "a\ud800b", "ü": "\u2028"}})
    made = Arguments.parse('{"e": "{event}", "t": "{details.text}"}').of("acme", [odd])
    assert json.loads(json.dumps(made, ensure_ascii=False, allow_nan=False).encode())["t"].isprintable()


def test_where_a_template_does_not_fit_a_tool_is_said() -> None:
    arguments = Arguments.parse('{"a": "{id}", "b": 1}')
    closed = {"properties": {"a": {}, "c": {}}, "required": ["a", "c"], "additionalProperties": False}
    assert arguments.misfits(closed) == ["the tool needs 'c', which is not there", "the tool takes no 'b'"]
    assert arguments.misfits({"type": "object", "required": ["a"]}) == []
    assert arguments.misfits({"required": 5, "properties": []}) == []


def test_kinds_are_chosen_by_name_or_noun() -> None:
    kinds = Kinds.parse(" mission.* , task.accepted")
    wanted = {kind for kind in KINDS if kinds.wants(kind)}
    assert wanted == {kind for kind in KINDS if kind.startswith("mission.")} | {"task.accepted"}
    assert all(map(Kinds.parse("").wants, KINDS))
    with pytest.raises(ValueError, match="no event is of kind 'tasks'"):
        Kinds.parse("tasks")


@pytest.mark.parametrize(
    "text", ["x", "[]", '{"A": 1}', '{"a b": "x"}', '{"A": "x\\n"}', '{"Mcp-Session-Id": "x"}']
)
def test_headers_that_cannot_be_sent_are_refused_without_their_values(text: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (the words are compared)
        parse_headers(text.replace("x", "hush-hush"))
    assert "hush" not in str(raised.value)
    assert parse_headers('{"Authorization": "Bearer x"}') == {"Authorization": "Bearer x"}


@pytest.mark.parametrize("micros", [0, 1, 120_000])
def test_an_event_as_a_whole_is_what_its_model_says(micros: int) -> None:
    event = EVENT.model_copy(update={"at": EVENT.at.replace(microsecond=micros), "tenant": "acme"})
    (said,) = Arguments.parse('{"all": {"$each": "{event}"}}').of("acme", [event])["all"]
    assert said == event.model_dump(mode="json")
