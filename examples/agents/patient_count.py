"""An agent that is no LLM and takes its time: it counts words, and rests between paragraphs.

The rest stands for what real agents wait for, such as a slow service. A worker that is killed
meanwhile loses nothing but time: another one counts again.

    chimera agent run patient_count --agents examples/agents/patient_count.py -i "one two"
"""

import asyncio

from pydantic import BaseModel, ConfigDict, Field

from chimera import Context, Task, agent


class Options(BaseModel):
    """What a mission may set."""

    model_config = ConfigDict(extra="forbid")

    rest_s: float = Field(4.0, ge=0, le=60, description="How long it rests in all, seconds.")


@agent("patient_count", options=Options)
async def patient_count(task: Task, ctx: Context) -> dict[str, object]:
    """Counts the words of a document, unhurriedly."""
    options = Options.model_validate(ctx.options)
    text = task.input["text"] if isinstance(task.input, dict) else str(task.input)
    paragraphs = [part for part in text.split("\n\n") if part.strip()] or [""]
    words = 0
    for part in paragraphs:
        words += len(part.split())
        await asyncio.sleep(options.rest_s / len(paragraphs))
    return {"words": words, "paragraphs": len(paragraphs)}
