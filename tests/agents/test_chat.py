"""A chat completion's request: what may be forwarded, and the bound of what it costs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.agents.models.chat import (
    FRAME_TOKENS,
    MOST_ANSWERS,
    MOST_TOKENS,
    TOOLS_TOKENS,
    ChatBody,
    ChatRefused,
    parse,
)
from chimera.agents.models.prices import Tokens

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
NAMES = st.sampled_from([*ChatBody.model_fields, "type", "text", "function", "role", "content", "x"])
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def test_the_forwarded_request_has_the_endpoints_name_and_always_a_bound() -> None:
    chat = parse({**ASKED, "temperature": 0.5, "seed": None}, max_tokens=20)
    assert orjson.loads(chat.written("real", "max_tokens")) == {
        "model": "real",
        "messages": ASKED["messages"],
        "temperature": 0.5,
        "stream": False,
        "max_tokens": 20,
    }


@pytest.mark.parametrize("said", ["max_tokens", "max_completion_tokens"])
def test_a_bound_is_sent_once_under_the_name_that_the_endpoint_heeds(said: str) -> None:
    chat = parse({**ASKED, said: 7}, max_tokens=20)
    for cap in ("max_tokens", "max_completion_tokens"):
        written = orjson.loads(chat.written("m", cap))
        assert {name: value for name, value in written.items() if name.startswith("max")} == {cap: 7}


def test_a_stream_always_asks_for_its_usage() -> None:
    chat = parse({**ASKED, "stream": True}, max_tokens=20)
    assert not chat.wants_usage
    assert orjson.loads(chat.written("m", "max_tokens"))["stream_options"] == {"include_usage": True}
    said = {"stream": True, "stream_options": {"include_usage": True}}
    assert parse({**ASKED, **said}, max_tokens=20).wants_usage


def test_every_byte_of_the_request_bounds_a_token_and_each_answer_counts_the_prompt() -> None:
    chat = parse({**ASKED, "n": 3, "max_tokens": 5}, max_tokens=20)
    data = chat.written("m", "max_tokens")
    assert chat.bound(data) == Tokens(input=3 * (len(data) + FRAME_TOKENS), output=15)
    with_tools = parse({**ASKED, "tools": [TOOL]}, max_tokens=20)
    data = with_tools.written("m", "max_tokens")
    assert with_tools.bound(data) == Tokens(input=len(data) + FRAME_TOKENS + TOOLS_TOKENS, output=20)


def test_the_default_bound_is_never_above_the_most() -> None:
    assert parse(ASKED, max_tokens=MOST_TOKENS + 1).max_tokens == MOST_TOKENS


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"model": ""}, "model", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "boss", "content": ""}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]},
            "messages[0].content[0].text",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0]",
            "unsupported_parameter",
        ),
        (
            {"messages": [{"role": "assistant", "audio": {"id": "a"}}]},
            "messages[0].audio",
            "unsupported_parameter",
        ),
        ({"n": MOST_ANSWERS + 1}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_value"),
        ({"max_tokens": MOST_TOKENS + 1}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens", "invalid_value"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
        ({"stop": [1]}, "stop[0]", "invalid_value"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type", "unsupported_parameter"),
        ({"tool_choice": {"type": "x"}}, "tool_choice.type", "unsupported_parameter"),
        ({"response_format": {"type": "grammar"}}, "response_format", "unsupported_parameter"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": 4}}},
            "response_format.json_schema.name",
            "invalid_value",
        ),
        ({"audio": {}}, "audio", "unsupported_parameter"),
        ({"x" * 200: 1}, "x" * 80, "unsupported_parameter"),
    ],
)
def test_what_is_wrong_or_not_supported_is_named(more: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ChatRefused) as refused:
        parse({**ASKED, **more}, max_tokens=20)
    assert (refused.value.param, refused.value.code) == (param, code)


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {}, "strict": True},
            }
        },
        {"response_format": {"type": "json_object"}, "stop": "x", "logit_bias": {"5": -1}, "logprobs": True},
        {"web_search_options": None, "reasoning_effort": "low", "user": "u"},
    ],
)
def test_what_costs_tokens_alone_passes(more: dict[str, Any]) -> None:
    said = {name: value for name, value in more.items() if value is not None}
    written = orjson.loads(parse({**ASKED, **more}, max_tokens=20).written("m", "max_tokens"))
    assert said.items() <= written.items()
    assert "web_search_options" not in written


@pytest.mark.parametrize("body", [[], "x", None, 1])
def test_what_is_no_object_is_no_request(body: Any) -> None:
    with pytest.raises(ChatRefused):
        parse(body, max_tokens=20)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300_000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(body=st.dictionaries(NAMES, JSON, max_size=6), asked=st.booleans())
def test_whatever_is_asked_is_bounded_or_refused(body: dict[str, Any], asked: bool) -> None:
    try:
        chat = parse({**ASKED, **body} if asked else body, max_tokens=20)
    except ChatRefused as refused:
        assert refused.message  # noqa: PT017 (both may be)
        return
    written = orjson.loads(chat.written("real", "max_tokens"))
    assert 1 <= written["max_tokens"] <= MOST_TOKENS
    assert written.keys() <= ChatBody.model_fields.keys()
    assert written.get("n", 1) <= MOST_ANSWERS
    assert {tool["type"] for tool in written.get("tools", ())} <= {"function"}
    assert "max_completion_tokens" not in written
