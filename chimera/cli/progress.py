"""Progress of a mission as it is shown: live on a terminal, line-wise on a pipe, NDJSON for programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from chimera.cli import output
from chimera.cli.output import Format
from chimera.cli.task import words
from chimera.core.action import ActionStatus
from chimera.core.money import usd
from chimera.core.task import TaskStatus

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

    from chimera.core.views import FleetView, MissionView, ResultView, TaskView

LINE_EVERY_S = 1.0


class Progress(Protocol):
    """What a watched mission is told to; a context manager around the watch."""

    def __enter__(self) -> Progress: ...
    def __exit__(self, *_: object) -> None: ...
    def moved(self, mission: MissionView, fleet: FleetView | None) -> None:
        """The mission as it stands now."""

    def accepted(self, result: ResultView, mission: MissionView) -> None:
        """One more accepted result."""

    def ended(self, mission: MissionView, failures: Sequence[Failure]) -> None:
        """The last state that is watched for, and why tasks failed."""


def choose(output_format: Format) -> Progress:
    """The kind that suits this stdout."""
    if output_format is Format.JSON:
        return Json()
    console = output.console()
    return OnTerminal(console) if console.is_terminal else Lines()


def states(mission: MissionView) -> str:
    """Tasks by state, those without tasks left out."""
    counted = [f"{count} {status}" for status, count in mission.counts.items() if count]
    waiting = mission.total_tasks - mission.planned
    return " · ".join([*counted, *([f"{waiting} not yet planned"] if waiting else [])])


def actions(mission: MissionView) -> str:
    """Actions of accepted results by status; "" when there are none."""
    return " · ".join(f"{count} {status}" for status, count in mission.actions.items() if count)


def money(mission: MissionView) -> str:
    """Spend against budget."""
    held = f" (+ {usd(mission.held_microusd)} held)" if mission.held_microusd else ""
    return f"{usd(mission.spent_microusd)} of {usd(mission.budget_microusd)}{held}"


def crew(fleet: FleetView | None) -> str:
    """The tenant's workers."""
    if fleet is None:
        return "workers unknown"
    count = len(fleet.workers)
    return f"{output.counted(count, 'worker')}, {fleet.busy} of {fleet.slots} slots busy"


def told(result: ResultView, mission: MissionView) -> str:
    """An accepted result: task, stage where there is more than one, verdict, attempts, cost, and itself."""
    verdict = words(result.verdict) if result.verdict else f"accept {result.confidence:.2f}"
    attempts = output.counted(result.attempts, "attempt")
    parts = [result.task_id, verdict, attempts, usd(result.spent_microusd)]
    if mission.strategy != "map":
        parts.insert(1, f"{result.stage}{', an answer' if result.answers else ''}")
    return f"✓ {'  '.join(parts)}\n    {output.short(result.result, 600)}"


SINGULAR = {
    "crashes": "crash",
    "lapses": "lapse",
    "errors": "error",
    "timeouts": "timeout",
    "rejections": "rejection",
    "stale": "stale result",
    "judge_errors": "judge error",
}


def tallies(mission: MissionView) -> str:
    """What went wrong on the way; "" when nothing did."""
    return ", ".join(
        output.counted(count, SINGULAR[name]) if name in SINGULAR else f"{count} {name}"
        for name, count in mission.tallies.items()
    )


@dataclass(frozen=True)
class Failure:
    """Tasks that failed for one reason with one error."""

    reason: str
    error: str
    task_ids: tuple[str, ...]

    def told(self) -> str:
        """On one line: the first of the tasks, how many more, and what was wrong."""
        more = f" and {len(self.task_ids) - 1} more" if len(self.task_ids) > 1 else ""
        said = f": {output.short(self.error, 300)}" if self.error else ""
        return f"{self.task_ids[0]}{more} failed ({self.reason}){said}"


def failures(tasks: Iterable[TaskView]) -> list[Failure]:
    """Failed tasks by their reason and their last error, the most frequent first."""
    found: dict[tuple[str, str], list[str]] = {}
    for task in tasks:
        # Of a task that was rejected, it is the judge who said why; an error is of an earlier attempt.
        rejected = task.reason == "rejected" and task.verdicts
        said = task.verdicts[-1].feedback if rejected else task.last_error
        found.setdefault((task.reason, said), []).append(task.task_id)
    ranked = sorted(found.items(), key=lambda item: -len(item[1]))
    return [Failure(reason, error, tuple(ids)) for (reason, error), ids in ranked]


SHOWN_FAILURES = 3


def totals(mission: MissionView, seconds: float, why: Sequence[Failure] = ()) -> str:
    """How a mission ended, in a few lines."""
    lines = [
        f"{mission.status}{f' ({mission.reason})' if mission.reason else ''}: "
        f"{mission.accepted} of {mission.total_tasks} accepted, {mission.failed} failed, "
        f"{money(mission)}, {seconds:.1f} s"
    ]
    if mission.tallies:
        lines.append(f"  on the way: {tallies(mission)}")
    lines += [f"  {failure.told()}" for failure in why[:SHOWN_FAILURES]]
    if mission.actions.get(ActionStatus.QUEUED, 0):
        lines.append(
            f"  actions: {actions(mission)}; the mission does not wait for them: "
            f"chimera action list --mission {mission.mission_id}"
        )
    elif actions(mission):
        lines.append(f"  actions: {actions(mission)}")
    if mission.wanted_microusd:
        lines.append(
            f"  the next call could cost {usd(mission.wanted_microusd)}: with {usd(mission.spent_microusd)} "
            f"spent that needs a budget of {usd(mission.spent_microusd + mission.wanted_microusd)}"
        )
    if mission.next_step:
        lines.append(f"  {mission.next_step}")
    if mission.status == "WAITING_REVIEW":
        lines.append("  a human must answer: chimera review list")
    return "\n".join(lines)


class Json:
    """NDJSON: ``{"type": "progress" | "result" | "end", …}``."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def moved(self, mission: MissionView, fleet: FleetView | None) -> None:
        workers = None if fleet is None else len(fleet.workers)
        output.line({"type": "progress", "workers": workers, "mission": output.plain(mission)})

    def accepted(self, result: ResultView, mission: MissionView) -> None:
        output.line({"type": "result", "result": output.plain(result)})

    def ended(self, mission: MissionView, failures: Sequence[Failure]) -> None:
        why = [asdict(failure) for failure in failures]
        output.line({"type": "end", "mission": output.plain(mission), "failures": why})


class Lines:
    """One line for each change on stderr, at most one a second; results and the end on stdout."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._last, self._last_at = "", float("-inf")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def moved(self, mission: MissionView, fleet: FleetView | None) -> None:
        told = f"{mission.status}  {states(mission)}  spent {money(mission)}  {crew(fleet)}"
        now = self._clock()
        if told == self._last or (now - self._last_at < LINE_EVERY_S and not mission.final):
            return
        self._last, self._last_at = told, now
        output.note(f"{now - self._began:6.1f}s  {told}")

    def accepted(self, result: ResultView, mission: MissionView) -> None:
        output.say(told(result, mission))

    def ended(self, mission: MissionView, failures: Sequence[Failure]) -> None:
        output.say(totals(mission, self._clock() - self._began, failures))


class Sending:
    """How many inputs are on their way, on stderr, at most once a second; silent where that is quick."""

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._clock = count, clock
        self._said_at = clock()

    def __call__(self, sent: int) -> None:
        now = self._clock()
        if now - self._said_at >= LINE_EVERY_S:
            self._said_at = now
            output.note(f"sent {sent:,} of {self._count:,} inputs")


BAR = 30
COLOURS = {
    TaskStatus.ACCEPTED: "green",
    TaskStatus.FAILED: "red",
    TaskStatus.CANCELLED: "red",
    TaskStatus.ESCALATED: "yellow",
    TaskStatus.PENDING: "cyan",
    TaskStatus.REVIEW: "blue",
}


class OnTerminal:
    """A few lines that are painted over; results scroll above them."""

    def __init__(self, console: Console) -> None:
        self._console, self._began = console, time.monotonic()
        self._mission: MissionView | None = None
        self._fleet: FleetView | None = None
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        from rich.live import Live

        self._live = Live(
            get_renderable=self._picture, console=self._console, refresh_per_second=8, transient=True
        )
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def moved(self, mission: MissionView, fleet: FleetView | None) -> None:
        self._mission, self._fleet = mission, fleet

    def accepted(self, result: ResultView, mission: MissionView) -> None:
        self._console.print(told(result, mission), markup=False)

    def ended(self, mission: MissionView, failures: Sequence[Failure]) -> None:
        # The picture goes first: the totals are its last word.
        self._mission = None
        self.__exit__()
        self._console.print(totals(mission, time.monotonic() - self._began, failures), markup=False)

    def _picture(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        mission = self._mission
        if mission is None:
            return Group()
        done = BAR * mission.accepted // max(1, mission.total_tasks)
        head = Text.assemble(
            (f"{mission.status:<14}", "bold"),
            ("█" * done, "green"),
            ("░" * (BAR - done), "dim"),
            f" {mission.accepted}/{mission.total_tasks} accepted  {time.monotonic() - self._began:.0f} s",
        )
        counts = Text("  ").join(
            Text(f"{count} {status}", COLOURS.get(status, ""))
            for status, count in mission.counts.items()
            if count
        )
        return Group(head, counts, Text(f"spent {money(mission)} · {crew(self._fleet)}", "dim"))
