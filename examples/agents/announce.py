"""An agent with a side effect: it tells a webhook what it wrote, once that is accepted.

export CHIMERA_ACTION_HOSTS=127.0.0.1:9000
chimera agent run announce --agents examples/agents/announce.py -i "The harbour opens at six."
"""

from pydantic import BaseModel, ConfigDict, Field

from chimera import Context, HttpAction, Task, agent


class Options(BaseModel):
    """What a mission may set."""

    model_config = ConfigDict(extra="forbid")

    webhook: str = Field("http://127.0.0.1:9000/announcements", description="Where announcements go.")


@agent("announce", options=Options)
async def announce(task: Task, ctx: Context) -> dict[str, str]:
    """Announces the first sentence of a text to a webhook."""
    options = Options.model_validate(ctx.options)
    first = str(task.input).partition(".")[0].strip() + "."
    # Nothing is sent here: it is kept with the result, and sent when that is accepted.
    ctx.propose(HttpAction(url=options.webhook, body={"task": ctx.task_id, "text": first}))
    return {"announced": first}
