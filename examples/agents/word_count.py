"""Agents that are no language models: `chimera up --agents examples/agents/word_count.py`.

`word-count` counts one text; `word-total` brings such counts together, in a map_reduce or a dag.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TypedDict

from pydantic import BaseModel, ConfigDict, Field

from chimera import Context, Task, agent


class Options(BaseModel):
    """What a mission may set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top: int = Field(3, ge=1, le=100, description="How many of the commonest words to list.")
    min_letters: int = Field(4, ge=1, le=40, description="Shorter words are counted, not listed.")


class Count(TypedDict):
    """The result."""

    words: int
    distinct: int
    top: list[str]


@agent("word-count", options=Options)
async def word_count(task: Task, ctx: Context) -> Count:
    """Counts the words of a text, and lists the commonest."""
    options = Options.model_validate(ctx.options)
    text = task.input["text"] if isinstance(task.input, dict) else str(task.input)
    words = re.findall(r"[^\W\d_]+", text.lower())
    long = Counter(word for word in words if len(word) >= options.min_letters)
    ctx.progress(f"{len(words)} words")
    ranked = sorted(long, key=lambda word: (-long[word], word))
    return Count(words=len(words), distinct=len(set(words)), top=ranked[: options.top])


@agent("word-total")
async def word_total(task: Task, ctx: Context) -> dict[str, int]:
    """Adds up the counts of other tasks."""
    parts = task.context.inputs.values()
    return {
        "texts": sum(part.get("texts", 1) for part in parts),
        "words": sum(part["words"] for part in parts),
    }
