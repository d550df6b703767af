"""Judge policies as a mission file names them: what is asked of a result, checked at submit.

    judge:
      - {policy: schema, schema: {type: object, required: [title]}}
      - {policy: rules, field: sentence, min_chars: 10, grounded: {field: sentence, min_share: 0.8}}

Each policy yields a confidence (`chimera.judging`); the least of them decides. A pattern's syntax
is checked by `chimera.judging.validate_policies`, where the engine that runs it lives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from chimera.core.mistakes import at_most

MAX_SCHEMA_BYTES = 65_536
MAX_SCHEMA_NODES = 4_000
MAX_SCHEMA_DEPTH = 32
MAX_PATTERNS = 32
MAX_PATTERN_CHARS = 1_000
MAX_CHARS = 8_388_608

_SCHEMA_DIALECTS = {
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2020-12/schema#",
}

FieldPath = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="Where in the result: keys and list positions joined by dots, `items.0.title`.",
    ),
]
Pattern = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN_CHARS)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=MAX_PATTERNS), at_most(MAX_PATTERNS)]


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class SchemaPolicy(_Policy):
    """The result fits a JSON Schema (2020-12): 1.0 if it does, else 0.0 with what to change."""

    policy: Literal["schema"] = "schema"
    json_schema: dict[str, Any] | bool = Field(
        alias="schema", description="JSON Schema 2020-12. `$ref` stays within it; `pattern` is RE2."
    )

    @field_validator("json_schema")
    @classmethod
    def _within_bounds(cls, schema: dict[str, Any] | bool) -> dict[str, Any] | bool:
        check_schema_bounds(schema)
        return schema


class Grounding(_Policy):
    """How much of a text must come from the task's input."""

    field: FieldPath | None = Field(None, description="Text to check; the rule's own field by default.")
    min_share: float = Field(
        0.8,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Least share of the text's content words that occur in the input.",
    )


class RulesPolicy(_Policy):
    """Plain rules over the result or one field of it: 1.0 if all hold, else at most 0.60."""

    policy: Literal["rules"] = "rules"
    field: FieldPath | None = Field(None, description="The field the rules speak of; else the whole result.")
    min_chars: int | None = Field(None, ge=0, le=MAX_CHARS, description="Least length, in characters.")
    max_chars: int | None = Field(None, ge=0, le=MAX_CHARS, description="Greatest length, in characters.")
    required: Patterns = Field((), description="RE2 patterns that must each be found.")
    forbidden: Patterns = Field((), description="RE2 patterns none of which may be found.")
    grounded: Grounding | None = Field(None, description="The text must come from the input.")

    @model_validator(mode="after")
    def _says_something_possible(self) -> RulesPolicy:
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars ({self.min_chars}) is above max_chars ({self.max_chars})")
        rules = (self.min_chars, self.max_chars, self.grounded)
        if all(rule is None for rule in rules) and not self.required and not self.forbidden:
            raise ValueError("no rule given: use min_chars, max_chars, required, forbidden or grounded")
        return self


class LlmPolicy(_Policy):
    """A model scores the result against a rubric; its score is the confidence."""

    policy: Literal["llm"] = "llm"
    rubric: str = Field(min_length=1, max_length=20_000, description="What a good result is, in prose.")
    model: str | None = Field(
        None, max_length=200, description="The judge's model; else CHIMERA_JUDGE_MODEL."
    )
    allow_self_judging: bool = Field(
        False, description="Let the model that wrote the result judge it. Recorded in the verdict."
    )


class HumanPolicy(_Policy):
    """A human decides: always 0.80, which waits for one under the default thresholds."""

    policy: Literal["human"] = "human"
    note: str = Field("", max_length=2_000, description="Shown to the reviewer.")


JudgePolicy = Annotated[SchemaPolicy | RulesPolicy | LlmPolicy | HumanPolicy, Field(discriminator="policy")]

DEFAULT_JUDGE: tuple[JudgePolicy, ...] = (RulesPolicy(min_chars=1),)
"""For a mission that names no judge: a result that is not empty.

The weakest rule that every useful result meets; anything stronger would guess at what the author
wants. Boundaries hold beside it all the same.
"""


def check_schema_bounds(schema: dict[str, Any] | bool) -> None:
    """Refuse a JSON Schema that could cost the hub more than its share.

    Raises:
        ValueError: over a bound, a remote reference, another dialect; the message names the place.
    """
    try:
        size = len(json.dumps(schema, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"not JSON: {exc}") from exc
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"{size:,} bytes of JSON, over the limit of {MAX_SCHEMA_BYTES:,}")
    for count, (place, depth, key, value) in enumerate(_nodes(schema), start=1):
        if count > MAX_SCHEMA_NODES:
            raise ValueError(f"more than {MAX_SCHEMA_NODES:,} values: split it, or ask for less")
        if depth > MAX_SCHEMA_DEPTH:
            raise ValueError(f"{place}: nested deeper than {MAX_SCHEMA_DEPTH} levels")
        if not isinstance(value, str):
            continue
        if key in {"$ref", "$dynamicRef"} and not value.startswith("#"):
            raise ValueError(f"{place}: {value!r} points outside the schema; put it under $defs")
        if key == "$schema" and value not in _SCHEMA_DIALECTS:
            raise ValueError(f"{place}: only JSON Schema 2020-12 is spoken, not {value!r}")


def _nodes(schema: Any) -> Iterator[tuple[str, int, str, Any]]:
    """Every value with its place (a JSON pointer), depth and key."""
    left: list[tuple[str, int, str, Any]] = [("#", 0, "", schema)]
    while left:
        place, depth, key, value = left.pop()
        yield place, depth, key, value
        if isinstance(value, dict):
            left.extend((f"{place}/{name}", depth + 1, name, inner) for name, inner in value.items())
        elif isinstance(value, list):
            left.extend((f"{place}/{at}", depth + 1, "", inner) for at, inner in enumerate(value))
