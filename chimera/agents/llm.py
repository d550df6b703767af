"""The built-in agent `llm`: a prompt over the input, answered as text or as JSON of a schema."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chimera.agents import quoting, template
from chimera.agents.context import Context
from chimera.agents.registry import agent
from chimera.core.task import Task
from chimera.errors import AnswerUnusable

DEFAULT_PROMPT = "{goal}\n\n{input}{inputs}"
DEFAULT_SEED = 7
FEEDBACK = "An earlier answer was rejected: {said}"
"""Goes into the system prompt: beside the input, a small model takes it for input."""
RETRY_WARMTH = 0.8
"""At temperature 0 a retry would say the same again: once an answer was rejected, at least this."""


class LlmOptions(BaseModel):
    """What a mission may tell the agent `llm`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(
        DEFAULT_PROMPT,
        min_length=1,
        max_length=100_000,
        description="The prompt, with {goal}, {input}, {input.field}, {inputs}, {data.key}, {feedback}.",
    )
    system: str | None = Field(
        None, max_length=100_000, description="The system prompt, with the same names."
    )
    output_schema: dict[str, Any] | None = Field(
        None, description="A JSON Schema of type object. With it the answer is JSON, else text."
    )
    max_tokens: int | None = Field(
        None, ge=1, le=200_000, description="Tokens of the answer. Unset: CHIMERA_MODEL_MAX_TOKENS."
    )
    temperature: float = Field(0, ge=0, le=2, description="0 always takes the likeliest word.")
    seed: int = Field(DEFAULT_SEED, ge=0, le=2**31 - 1, description="Each rejection adds 1.")
    model: str | None = Field(None, max_length=200, description="Unset: CHIMERA_MODEL.")

    @field_validator("prompt", "system")
    @classmethod
    def _is_a_template(cls, text: str | None) -> str | None:
        if text is not None and (wrong := template.problems(text)):
            raise ValueError("; ".join(wrong))
        return text

    @field_validator("output_schema")
    @classmethod
    def _is_an_object(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is None:
            return None
        if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
            raise ValueError("must be a JSON Schema with `type: object` and `properties`")
        if wrong := quoting.problems(schema):
            raise ValueError("; ".join(wrong))
        return schema


@agent("llm", options=LlmOptions)
async def llm(task: Task, ctx: Context) -> Any:
    """Asks a language model: a prompt over the input, answered as text or as JSON of a schema.

    In a reduce task `{inputs}` holds the accepted results by task id. What the judge said of the last
    attempt is added to the system prompt, unless the mission places `{feedback}` itself.
    """
    options = LlmOptions.model_validate(ctx.options)
    prompt = template.render(options.prompt, task.context)
    system = template.render(options.system or "", task.context)
    if task.context.feedback and "{feedback}" not in options.prompt + (options.system or ""):
        system = f"{system}\n{FEEDBACK.format(said=task.context.feedback[-1])}".strip()
    # By the round, not the attempt: a re-run after a crash asks the same, and is given what was paid for.
    retry = ctx.round > 0
    call: dict[str, Any] = {
        "system": system or None,
        "max_tokens": options.max_tokens,
        "temperature": max(options.temperature, RETRY_WARMTH) if retry else options.temperature,
        "seed": options.seed + ctx.round,
        "model": options.model,
    }
    if options.output_schema is None:
        return await ctx.model.text(prompt, **call)
    schema = quoting.narrow(options.output_schema, lambda path: template.value_at(task.context, path))
    try:
        answer = await ctx.model.structured(prompt, schema, **call)
    except AnswerUnusable as exc:
        # Paid for, and no crash: the judge reads it, says why not, and the next attempt learns of it.
        return exc.text
    return quoting.without_repeats(answer, options.output_schema)
