"""`chimera chaos`: harm a fleet under load, and prove that nothing was lost."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera.cli import output
from chimera.cli.exits import Exit
from chimera.cli.output import Format, Output

if TYPE_CHECKING:
    from chimera.chaos.drill import Plan
    from chimera.chaos.history import History

app = output.group("chaos", "Harm a fleet under load and check that nothing was lost: run, check.")


@app.command()
def run(
    seed: Annotated[int, typer.Option(help="Decides the load and the schedule of faults.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.1, max=240, help="Of load and faults.")] = 3,
    faults: Annotated[
        str, typer.Option(help="light, heavy, all, or names with commas; see `chimera chaos faults`.")
    ] = "light",
    sure_path_only: Annotated[
        bool,
        typer.Option("--sure-path-only", help="Rescue by expired leases alone: CHIMERA_FAST_RESCUE=false."),
    ] = False,
    url: Annotated[
        str,
        typer.Option(help="Harm this local fleet, found in CHIMERA_STATE_DIR, instead of one of its own."),
    ] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before harming the fleet that --url names.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Keep journals, logs and the history in this directory.")
    ] = None,
    output_format: Output = Format.TEXT,
) -> None:
    """Start a fleet, load it, harm it by seed, and check the invariants. Exits 1 on a violation.

    It takes about two minutes longer than MINUTES: the fleet's start, and the quiet at the end.
    With --url it harms a running fleet of yours, under tenants of its own; nothing is paid there.

    \b
    Examples:
      chimera chaos run
      chimera chaos run --minutes 10 --faults all --seed 7 --keep drill
      chimera chaos run --faults worker-kill,redis-kill -o json
      chimera chaos run --url http://127.0.0.1:8000 --minutes 1 --faults worker-kill
    """
    from chimera.chaos.drill import Plan
    from chimera.chaos.faults import named

    try:
        plan = Plan(seed, minutes, named(faults))
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--faults") from exc
    if url:
        output.confirm(f"{url} will be harmed on purpose: {faults} faults. Go on?", yes=yes)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        directory = keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise typer.BadParameter(f"{directory} is not empty", param_hint="--keep")
        history = _drill(plan, directory.absolute(), url, fast_rescue=not sure_path_only)
    _report(history, output_format)


def _drill(plan: Plan, directory: Path, url: str, *, fast_rescue: bool) -> History:
    import asyncio
    import signal

    from chimera import settings
    from chimera.chaos import site
    from chimera.chaos.drill import drill

    def told(said: str) -> None:
        output.note(f"  {said}")

    # However it is asked to end, its fleet ends first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if url:
        return asyncio.run(drill(plan, site.named(url, settings.load()), directory, told))
    told("the fleet is starting")
    with site.own(directory, plan.faults, fast_rescue=fast_rescue) as own:
        return asyncio.run(drill(plan, own, directory, told))


@app.command()
def check(
    directory: Annotated[Path, typer.Argument(help="What `chaos run --keep` kept.", exists=True)],
    output_format: Output = Format.TEXT,
) -> None:
    """Check a kept history again. Exits 1 on a violation.

    \b
    Example:
      chimera chaos check drill
    """
    from chimera.chaos.history import History

    _report(History.kept(directory / "history.json"), output_format)


@app.command("faults")
def faults_(output_format: Output = Format.TEXT) -> None:
    """List the faults there are.

    \b
    Example:
      chimera chaos faults
    """
    from chimera.chaos.faults import LASTS_S, SETS, Fault

    sets = {fault: [name for name, members in SETS.items() if fault in members] for fault in Fault}
    if output_format is Format.JSON:
        output.document(
            [
                {"fault": fault, "sets": sets[fault], "means": fault.means, "held_s": LASTS_S.get(fault, 0.0)}
                for fault in Fault
            ]
        )
        return
    for fault in Fault:
        held = f" ({LASTS_S[fault]:g} s)" if fault in LASTS_S else ""
        output.say(f"{fault:<23} {', '.join(sets[fault]):<11} {fault.means}{held}")


def _report(history: History, output_format: Format) -> None:
    from collections import Counter

    from chimera.chaos.checker import check as checked
    from chimera.chaos.deaths import times
    from chimera.chaos.hooks import sent_again
    from chimera.chaos.urgent import times as urgent_times

    findings = checked(history)
    faults = Counter(fault["fault"] for fault in history.faults)
    tasks = sum(ack["tasks"] for ack in history.acknowledged)
    bad = any(finding.violations for finding in findings)
    if output_format is Format.JSON:
        output.document(
            {
                "violated": bad,
                "missions": len(history.acknowledged),
                "tasks": tasks,
                "calls": len(history.calls),
                "webhooks": {"received": len(history.hooks), "of_these_again": sent_again(history)},
                "faults": dict(faults),
                "invariants": [
                    {
                        "invariant": one.invariant,
                        "says": one.says,
                        "checked": one.checked,
                        "verdict": one.verdict,
                        "violations": list(one.violations),
                    }
                    for one in findings
                ],
                "seconds_after_a_workers_death": times(history),
                "seconds_of_high_priority": urgent_times(history),
            }
        )
    else:
        output.say(
            f"{len(history.acknowledged)} missions, {tasks} tasks, {len(history.calls)} paid calls asked "
            f"for, {len(history.hooks)} webhooks received, {sent_again(history)} of them again"
        )
        output.say("faults: " + (", ".join(f"{n} {name}" for name, n in sorted(faults.items())) or "none"))
        output.table(
            ("INVARIANT", "SAYS", "CHECKED", "VERDICT"),
            [
                (one.invariant, one.says, "-" if one.checked is None else str(one.checked), one.verdict)
                for one in findings
            ],
        )
        for name, found in times(history).items():
            shown = ", ".join(f"{key} {value:g} s" for key, value in found.items() if key != "tasks")
            output.say(f"after a worker's death, {name}: {shown} ({found['tasks']:g} tasks)")
        if (urgent := urgent_times(history))["tasks"]:
            shown = ", ".join(f"{key} {value:g} s" for key, value in urgent.items() if key != "tasks")
            output.say(f"high priority, from submit to accepted: {shown} ({urgent['tasks']:g} tasks)")
        for one in findings:
            for violation in one.violations[:20]:
                output.say(f"{one.invariant}: {violation}")
    if bad:
        raise typer.Exit(Exit.FAILED)
