"""The agent that docs/first-agent.md builds."""

from chimera.agents import Context, agent
from chimera.core.task import Task


@agent("headlines")
async def headlines(task: Task, ctx: Context) -> dict[str, str]:
    """Writes a headline for a text."""
    prompt = f"{task.input}\n\nWrite a headline of at most eight words for the text above."
    headline = await ctx.model.text(prompt, max_tokens=24, temperature=0)
    return {"headline": headline.strip().strip('"')}
