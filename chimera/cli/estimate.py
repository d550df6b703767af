"""`chimera mission estimate FILE`: what it will cost, before anything runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.hub import ask
from chimera.cli.output import Format, Key, Output, Url
from chimera.cli.run import MissionFileArgument, read
from chimera.core.recurrence import Every

if TYPE_CHECKING:
    from chimera.core.forecast import EstimateView

VERDICTS = {
    "fits": "fits",
    "likely": "likely fits; the worst case does not",
    "no": "does NOT fit",
    "never": "never: a usual call reserves more than the limit",
}


def estimate(
    file: MissionFileArgument,
    every: Annotated[Every | None, typer.Option(help="It recurs so often: tell a year's cost too.")] = None,
    output_format: Output = Format.TEXT,
    url: Url = "",
    api_key_file: Key = "",
) -> None:
    """What a mission will cost: low, likely, worst; against its budget and the limits in force. Nothing runs.

    Each figure says what it rests on: this tenant's own history of the agent, or an assumption.

    \b
    Examples:
      chimera mission estimate examples/missions/digest.yaml
      chimera mission estimate m.yaml --every day -o json
    """
    from chimera.core.estimate import sizes_of
    from chimera.core.mission import DagPlan

    opened = read(file)
    sizes = None
    if not isinstance(opened.spec.plan, DagPlan):
        # Only their sizes travel, however many they are.
        sizes = sizes_of([len(json.dumps(one, ensure_ascii=False).encode()) for one in opened.inputs])
    found = ask(url, api_key_file, lambda client: client.estimate(opened.spec, sizes=sizes, every=every))
    if output_format is Format.JSON:
        return output.document(found)
    return show(found)


def show(found: EstimateView) -> None:
    """An estimate for people."""
    from chimera.core.money import usd

    output.say(
        f"{output.counted(found.tasks, 'task')}: likely {usd(found.likely_microusd)}, low "
        f"{usd(found.low_microusd)}, worst {usd(found.worst_microusd)} (budget {usd(found.budget_microusd)})"
    )
    rows = [
        (
            one.stage,
            one.agent,
            one.model,
            f"{one.tasks:,}",
            usd(one.low_microusd),
            usd(one.likely_microusd),
            "the budget" if one.worst_microusd is None else usd(one.worst_microusd),
        )
        for one in found.parts
    ]
    output.table(("STAGE", "AGENT", "MODEL", "TASKS", "LOW", "LIKELY", "WORST"), rows)
    for one in found.parts:
        output.say(f"  {one.stage}, {one.agent}: {one.rests_on}")
    output.say()
    fits = [
        (
            one.level,
            usd(one.limit_microusd),
            usd(one.left_microusd),
            VERDICTS.get(one.verdict, one.verdict),
            VERDICTS.get(one.recurring, one.recurring),
        )
        for one in found.fits
    ]
    titles = ("LIMIT", "OF", "LEFT", "THIS RUN", f"EVERY {found.every.upper()}" if found.every else "")
    output.table(titles, fits)
    if found.every and found.year_likely_microusd is not None:
        output.say(
            f"a year, every {found.every}: likely {usd(found.year_likely_microusd)}, low "
            f"{usd(found.year_low_microusd or 0)}, worst {usd(found.year_worst_microusd or 0)}"
        )
    for note in found.notes:
        output.say(f"note: {note}")
