"""The agent that docs/first-agent.md builds."""

from chimera import Context, Task, agent


@agent("headlines")
async def headlines(task: Task, ctx: Context) -> dict[str, str]:
    """Writes a headline for a text."""
    prompt = f"{task.input}\n\nWrite a headline of at most eight words for the text above."
    headline = await ctx.model.text(prompt, max_tokens=24, temperature=0)
    return {"headline": headline.strip().strip('"')}
