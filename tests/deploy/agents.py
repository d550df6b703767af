"""The agent of these tests: it says in which container it ran."""

from __future__ import annotations

import asyncio
import socket

from pydantic import BaseModel, ConfigDict, Field

from chimera.agents import Context, agent
from chimera.core.task import Task


class Rest(BaseModel):
    """What a mission may set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rest_s: float = Field(0.0, ge=0, le=120, description="How long it rests, seconds.")


@agent("square", options=Rest)
async def square(task: Task, ctx: Context) -> dict[str, object]:
    """Squares a number, after a rest."""
    await asyncio.sleep(Rest.model_validate(dict(ctx.options)).rest_s)
    number = int(task.input)
    return {"number": number, "square": number * number, "host": socket.gethostname()}
