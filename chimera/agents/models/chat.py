"""A chat completion as a client asks for it, bounded: what may be forwarded, and the most it may cost.

Only fields that are known to cost nothing beside tokens pass, so that the worst case is a bound whatever the
endpoint makes of them. What would be billed otherwise (images, audio, hosted tools, other service tiers) is
refused, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chimera.agents.models.prices import Tokens

MOST_TOKENS = 200_000
"""Output tokens of one answer, reasoning included: nobody may ask for more."""
MOST_ANSWERS = 8
"""Of one call (`n`)."""
FRAME_TOKENS = 128
"""What a chat template may add around the messages: separators, a system prompt of its own."""
TOOLS_TOKENS = 1_024
"""What it may add to say how tools are called."""

NOT_HERE = {
    "audio": "audio is billed beside text tokens",
    "modalities": "only text is answered: other modalities are billed beside text tokens",
    "web_search_options": "hosted tools are billed beside tokens",
    "service_tier": "another tier has other prices than those that are reserved",
    "prediction": "predicted tokens that are not used are billed beside the answer",
    "store": "nothing is kept at the provider",
    "metadata": "it belongs to what is kept at the provider, and nothing is",
    "moderation": "it is billed beside tokens",
    "functions": "say `tools`",
    "function_call": "say `tool_choice`",
    "prompt_cache_retention": "it changes the price of a prompt",
}
"""Fields that OpenAI knows and that are refused here, and why."""


class ChatRefused(Exception):
    """A request that cannot be forwarded.

    Args:
        message: what is wrong, and what to do.
        param: the field.
        code: `unsupported_parameter`, `invalid_value` or `model_not_found`.
    """

    def __init__(self, message: str, param: str, code: str) -> None:
        super().__init__(message, param, code)
        self.message, self.param, self.code = message, param, code

    def __str__(self) -> str:
        return self.message


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class RefusalPart(_Strict):
    """What a model said when it would not answer."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class Called(_Strict):
    """The function that a model wants called."""

    name: str
    arguments: str


class ToolCall(_Strict):
    """One call of a function, as a model asked for it."""

    id: str
    type: Literal["function"]
    function: Called
    index: int | None = None


class ChatMessage(_Strict):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Function(_Strict):
    """A function that the client runs by itself."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    """A tool; only those that the client runs cost nothing beside tokens."""

    type: Literal["function"]
    function: Function


class Named(_Strict):
    """A function's name."""

    name: str


class Chosen(_Strict):
    """The tool that must be called."""

    type: Literal["function"]
    function: Named


class Text(_Strict):
    """An answer of any text."""

    type: Literal["text"]


class AnyJson(_Strict):
    """An answer that is some JSON object."""

    type: Literal["json_object"]


class Shape(_Strict):
    """A JSON Schema and its name."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ShapedJson(_Strict):
    """An answer that fits a JSON Schema."""

    type: Literal["json_schema"]
    json_schema: Shape


class StreamOptions(_Strict):
    """How a stream is to be."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


Output = Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class ChatBody(_Strict):
    """All that may stand in a request: an allow-list."""

    model: str = Field(min_length=1, max_length=200)
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: Output | None = None
    max_completion_tokens: Output | None = None
    n: int | None = Field(None, ge=1, le=MOST_ANSWERS)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    response_format: Annotated[Text | AnyJson | ShapedJson, Field(discriminator="type")] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A request that may be forwarded.

    Attributes:
        model: as the client names it.
        stream: it is answered piece by piece.
        wants_usage: the stream's client asked for the chunk of usage.
        answers: how many it asks for.
        max_tokens: of each of them: what the client said, or what it gets.
        fields: what it said, without what is stated anew when it is forwarded.
    """

    model: str
    stream: bool
    wants_usage: bool
    answers: int
    max_tokens: int
    fields: Mapping[str, Any]

    def written(self, model: str, cap: str) -> bytes:
        """The request as an endpoint gets it: never without a bound of its output.

        Args:
            model: as the endpoint names it.
            cap: the field that bounds the output there.
        """
        stream = {"stream_options": {"include_usage": True}} if self.stream else {}
        return orjson.dumps(
            {**self.fields, "model": model, "stream": self.stream, **stream, cap: self.max_tokens}
        )

    def bound(self, data: bytes) -> Tokens:
        """The most tokens that a request as it was written may take.

        A tokenizer spends at least one byte of UTF-8 on each token, and all that it may see stands in the
        request; JSON around a message is longer than what a template puts there. Where several answers are
        asked for, the prompt may count for each.
        """
        frame = FRAME_TOKENS + (TOOLS_TOKENS if "tools" in self.fields else 0)
        return Tokens(input=self.answers * (len(data) + frame), output=self.answers * self.max_tokens)


def parse(body: Any, *, max_tokens: int) -> Chat:
    """What a client asks for.

    Args:
        body: the request's JSON.
        max_tokens: of an answer, where the client does not say.
    Raises:
        ChatRefused: it has something that is not supported, or is wrong.
    """
    if not isinstance(body, dict):
        raise ChatRefused("the body must be a JSON object", "", "invalid_value")
    fields = {name: value for name, value in body.items() if value is not None}
    unknown = [name for name in fields if name not in ChatBody.model_fields]
    if unknown:
        raise _unsupported(unknown)
    try:
        said = ChatBody.model_validate(fields)
    except ValidationError as exc:
        raise _wrong(exc.errors(include_url=False)) from exc
    if said.max_tokens and said.max_completion_tokens:
        raise ChatRefused(
            "say max_completion_tokens or max_tokens, not both", "max_completion_tokens", "invalid_value"
        )
    if said.stream_options and not said.stream:
        raise ChatRefused("stream_options is for streams alone", "stream_options", "invalid_value")
    options = said.stream_options
    for restated in ("model", "stream", "stream_options", "max_tokens", "max_completion_tokens"):
        fields.pop(restated, None)
    return Chat(
        model=said.model,
        stream=bool(said.stream),
        wants_usage=bool(options and options.include_usage),
        answers=said.n or 1,
        max_tokens=said.max_completion_tokens or said.max_tokens or min(max_tokens, MOST_TOKENS),
        fields=fields,
    )


def _unsupported(names: Sequence[str]) -> ChatRefused:
    shown = [f"{name[:80]!r}" for name in names[:10]]
    why = NOT_HERE.get(names[0])
    return ChatRefused(
        f"not supported here: {', '.join(shown)}{f' ({why})' if why else ''}; "
        "docs/any-framework.md lists the fields that are",
        names[0][:80],
        "unsupported_parameter",
    )


def _wrong(errors: Sequence[Mapping[str, Any]]) -> ChatRefused:
    # What is nearest to one of a field's alternatives says most.
    first = max(errors, key=lambda one: len(one["loc"]))
    where = _place(first["loc"])
    billed = first["type"] in {"extra_forbidden", "union_tag_invalid"} or first["loc"][-1] == "type"
    message = "there is no such field here" if first["type"] == "extra_forbidden" else str(first["msg"])
    if billed:
        message += f"; {ONLY}"
    return ChatRefused(f"{where}: {message}", where, "unsupported_parameter" if billed else "invalid_value")


def _place(loc: Sequence[int | str]) -> str:
    """``messages[0].content[1].type``: without the names that pydantic gives to alternatives."""
    text = ""
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(part, int):
            text += f"[{part}]"
        elif not index:
            text = part
        elif part in UNTYPED or "[" in part or (part in TAGS and not last and _tagged(loc[index - 1])):
            continue
        else:
            text += f".{part}"
    return text


ONLY = "only text, and functions that the client runs, are supported: all else is billed otherwise"
TAGS = {"text", "refusal", "json_object", "json_schema"}
UNTYPED = {"str", "Chosen"}


def _tagged(before: int | str) -> bool:
    return isinstance(before, int) or before == "response_format"
