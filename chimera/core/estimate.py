"""What a mission will cost, before anything runs: low, likely, worst; and a year of it, if it recurs. Pure.

``worst`` is a bound: every attempt, every try of every call, each at its worst case. ``likely`` is the
tenant's own history of the agent where there is enough, else assumptions, each of which the estimate states.
The budget caps
all three: a mission never spends more.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chimera.core.event import Event
from chimera.core.mission import DagPlan, MissionBase, Stage
from chimera.core.money import Window
from chimera.core.plan import total_tasks
from chimera.core.recurrence import HOURS, YEAR_H, Every
from chimera.core.replay import Change, Replay
from chimera.core.spending import Level

JUDGE = "judge"
"""Under which the calls of `llm` policies stand in the ledger."""
ENOUGH_TASKS = 20
"""Tasks of an agent that its history must have before it is trusted."""
MOST_TASKS = 50_000
"""Tasks of a history that are looked at."""
BYTES_PER_TOKEN, FEWEST_BYTES, MOST_RESULT_BYTES = 4, 5, 8
"""Of a text: assumed as usual, for `low`; and of a result, at the most."""
LIKELY_SHARE, LOW_SHARE = 0.5, 0.1
"""Of `max_tokens`: what an answer is assumed to take."""
LIKELY_ATTEMPTS = 1.2
"""Attempts of a task, assumed: one in five is tried again."""
OTHER_BYTES = 2_000
"""Assumed for the prompt of an agent of which nothing is known, beside goal and input."""
VERDICT_TOKENS = 100
"""Assumed for a judge's answer."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Inputs, as JSON: how many, and how large."""

    count: int
    mean_bytes: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A model's price.

    Attributes:
        cost: (input tokens, output tokens) → µ$.
        worst: the same at the most.
        version: where the price comes from.
    """

    model: str
    cost: Callable[[int, int], int]
    worst: Callable[[int, int], int]
    version: str


@dataclass(frozen=True, slots=True)
class Asking:
    """What one call of a stage sends.

    Attributes:
        likely_bytes, most_bytes: of the prompt, schema included.
        frame_tokens: what a chat template adds, at the most.
        max_tokens: of the answer.
        known: whether the agent is known to make exactly one such call an attempt; else it is assumed.
    """

    likely_bytes: int
    most_bytes: int
    frame_tokens: int
    max_tokens: int
    known: bool


@dataclass(frozen=True, slots=True)
class Past:
    """What tasks of an agent cost this tenant.

    Attributes:
        tasks: that paid for a call.
        calls: charged for them.
        low, likely: the tenth percentile and the mean of a task's cost, µ$.
        days: the span that was looked at.
    """

    tasks: int
    calls: int
    low: int
    likely: float
    days: float


@dataclass
class History:
    """The past of every agent, from the recorder's events of a span."""

    days: float
    replay: Replay = field(default_factory=lambda: Replay(sums=False))
    tasks: int = 0
    _costs: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    _calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def take(self, event: Event) -> None:
        """Add one event."""
        change = self.replay.take(event)
        if change is not None and change.hold.agent and change.hold.task_id:
            self._add(change)

    def _add(self, change: Change) -> None:
        hold = change.hold
        costs = self._costs[hold.agent]
        if hold.task_id not in costs:
            if self.tasks >= MOST_TASKS:
                return
            self.tasks += 1
        costs[hold.task_id] = costs.get(hold.task_id, 0) + change.amount
        self._calls[hold.agent] += change.first and change.amount > 0

    def of(self, agent: str) -> Past | None:
        """An agent's past; None where it is too short."""
        costs = sorted(cost for cost in self._costs.get(agent, {}).values() if cost > 0)
        if len(costs) < ENOUGH_TASKS:
            return None
        low = costs[len(costs) // 10]
        return Past(len(costs), self._calls[agent], low, sum(costs) / len(costs), self.days)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the environment allows.

    Attributes:
        attempts: of a task.
        tries: of one call, the first included.
        judgings: of one result before a human is asked.
        width: results one reduce task takes.
        result_bytes: of one result.
    """

    attempts: int
    tries: int
    judgings: int
    width: int
    result_bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one kind of the mission's tasks costs, without or with its judging; µ$.

    Attributes:
        agent: whose money it is in the ledger: the agent's, or `JUDGE`.
        call_microusd: what a call of usual size reserves.
        worst_microusd: None: nothing bounds it but the budget.
        rests_on: in words.
    """

    stage: str
    agent: str
    model: str
    tasks: int
    low_microusd: int
    likely_microusd: int
    worst_microusd: int | None
    call_microusd: int
    rests_on: str


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether it fits one level: a limit in force, or the mission's budget.

    Attributes:
        left_microusd: what the level would grant now.
        likely_microusd, worst_microusd: what the mission would take of it, within its budget.
        verdict: ``fits``, ``likely`` (the worst case does not), ``no`` (not even the likely one), or
            ``never``: one call reserves more than the whole limit.
        recurring: the same of the runs that fall into one window of it, against all of the limit; "" where it
            does not recur, or has no window.
    """

    level: str
    limit_microusd: int
    left_microusd: int
    likely_microusd: int
    worst_microusd: int
    verdict: str
    recurring: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a mission will cost. The sums are within its budget; `worst_unbounded_microusd` is not."""

    tasks: int
    parts: tuple[Part, ...]
    budget_microusd: int
    low_microusd: int
    likely_microusd: int
    worst_microusd: int
    plan_worst_microusd: int | None
    """The worst case of the plan, were there no budget; None: nothing else bounds it."""
    wanted_microusd: int
    """The likely cost, were there no budget."""
    fits: tuple[Fit, ...]
    every: Every | None
    runs_a_year: float
    notes: tuple[str, ...]


def sizes_of(lengths: Sequence[int]) -> Sizes:
    """Of inputs whose lengths in bytes are known."""
    if not lengths:
        return Sizes(0, 0, 0)
    return Sizes(len(lengths), math.ceil(sum(lengths) / len(lengths)), max(lengths))


def tasks_by_stage(spec: MissionBase, inputs: int, width: int) -> dict[str, int]:
    """How many tasks each stage of a mission has."""
    if isinstance(spec.plan, DagPlan):
        return dict.fromkeys(spec.stages, 1)
    total = total_tasks(spec, inputs, width)
    return {"map": inputs} | ({"reduce": total - inputs} if total > inputs else {})


def work(
    stage: str, kind: Stage, tasks: int, asking: Asking, rate: Rate, past: Past | None, bounds: Bounds
) -> Part:
    """What a stage's own calls cost."""
    call, most = _reserved(asking, rate)
    worst = tasks * bounds.attempts * bounds.tries * most if asking.known else None
    if past is not None:
        said = (
            f"{past.calls:,} calls for {past.tasks:,} tasks of {kind.agent} in the last {past.days:g} days "
            "(not scaled to the size of the inputs)"
        )
        low, likely = _within(tasks * past.low, math.ceil(tasks * past.likely), worst)
        return Part(stage, kind.agent, rate.model, tasks, low, likely, worst, call, said)
    low = rate.cost(max(1, asking.likely_bytes // FEWEST_BYTES), max(1, round(asking.max_tokens * LOW_SHARE)))
    likely = rate.cost(
        max(1, asking.likely_bytes // BYTES_PER_TOKEN), max(1, round(asking.max_tokens * LIKELY_SHARE))
    )
    said = (
        f"assumed, for {kind.agent} has no {ENOUGH_TASKS} paid tasks in the history: "
        f"{'' if asking.known else 'one call an attempt, '}{LIKELY_ATTEMPTS:g} attempts a task, "
        f"{BYTES_PER_TOKEN} bytes a token of the prompt, half of {asking.max_tokens:,} tokens answered"
    )
    low, likely = _within(tasks * low, math.ceil(tasks * likely * LIKELY_ATTEMPTS), worst)
    return Part(stage, kind.agent, rate.model, tasks, low, likely, worst, call, said)


def _within(low: int, likely: int, worst: int | None) -> tuple[int, int]:
    """Low and likely, in their order below the worst: what a history says may be of dearer calls, or of a few
    that were much cheaper than the others."""
    likely = likely if worst is None else min(likely, worst)
    return min(low, likely), likely


def _reserved(asking: Asking, rate: Rate) -> tuple[int, int]:
    """What a call reserves: one of usual size, and the largest."""

    def reserved(size: int) -> int:
        return rate.worst(size + asking.frame_tokens, asking.max_tokens)

    return reserved(asking.likely_bytes), reserved(asking.most_bytes)


def judging(
    stage: str, policies: int, tasks: int, asking: Asking, rate: Rate, past: Past | None, bounds: Bounds
) -> Part:
    """What the `llm` policies of a stage cost."""
    call, most = _reserved(asking, rate)
    calls = tasks * bounds.attempts * policies * bounds.judgings * bounds.tries
    if past is not None:
        low, likely = tasks * past.low, math.ceil(tasks * past.likely)
        said = f"{past.calls:,} judging calls for {past.tasks:,} tasks in the last {past.days:g} days"
    else:
        one = rate.cost(max(1, asking.likely_bytes // BYTES_PER_TOKEN), VERDICT_TOKENS)
        low = tasks * policies * rate.cost(max(1, asking.likely_bytes // FEWEST_BYTES), VERDICT_TOKENS // 2)
        likely = math.ceil(tasks * policies * one * LIKELY_ATTEMPTS)
        said = (
            f"assumed: {policies} `llm` {'policy' if policies == 1 else 'policies'}, {LIKELY_ATTEMPTS:g} "
            "results a "
            f"task, {VERDICT_TOKENS} tokens answered"
        )
    low, likely = _within(low, likely, calls * most)
    return Part(stage, JUDGE, rate.model, tasks, low, likely, calls * most, call, said)


def estimate(
    spec: MissionBase,
    inputs: int,
    parts: Sequence[Part],
    levels: Sequence[Level],
    bounds: Bounds,
    every: Every | None = None,
) -> Estimate:
    """The sum of its parts, against the budget and the limits in force."""
    budget = spec.budget_microusd
    likely, low = sum(one.likely_microusd for one in parts), sum(one.low_microusd for one in parts)
    bounded = [one.worst_microusd for one in parts if one.worst_microusd is not None]
    plan_worst = sum(bounded) if len(bounded) == len(parts) else None
    worst = budget if plan_worst is None else min(budget, plan_worst)
    own = Level("mission", budget, 0, 0)
    fits = [_fit(own, likely, budget if plan_worst is None else plan_worst, parts, None)]
    for level in levels:
        mine = [one for one in parts if _counts(level.level, one)]
        if not mine:
            continue
        share = min(budget, sum(one.likely_microusd for one in mine))
        most = [one.worst_microusd for one in mine if one.worst_microusd is not None]
        fits.append(
            _fit(level, share, min(budget, sum(most)) if len(most) == len(mine) else budget, mine, every)
        )
    return Estimate(
        tasks=total_tasks(spec, inputs, bounds.width),
        parts=tuple(parts),
        budget_microusd=budget,
        low_microusd=min(low, budget),
        likely_microusd=min(likely, budget),
        worst_microusd=worst,
        plan_worst_microusd=plan_worst,
        wanted_microusd=likely,
        fits=tuple(fits),
        every=every,
        runs_a_year=YEAR_H / HOURS[every] if every else 0.0,
        notes=_notes(parts, plan_worst, budget, likely),
    )


def _counts(level: str, part: Part) -> bool:
    """Whether a level counts a part's money."""
    subject = level.rpartition("/")[0]
    return subject in {"tenant", f"agent/{part.agent}", f"model/{part.model}"}


def _fit(level: Level, likely: int, worst: int, parts: Sequence[Part], every: Every | None) -> Fit:
    call = max((one.call_microusd for one in parts), default=0)
    verdict = _verdict(likely, worst, level.left_microusd)
    if call > level.limit_microusd:
        verdict = "never"
    recurring = ""
    window = level.level.rpartition("/")[2]
    if every and window in set(Window) and window != Window.LIFETIME:
        runs = max(1.0, HOURS[window] / HOURS[every])
        recurring = _verdict(math.ceil(runs * likely), math.ceil(runs * worst), level.limit_microusd)
    return Fit(level.level, level.limit_microusd, level.left_microusd, likely, worst, verdict, recurring)


def _verdict(likely: int, worst: int, room: int) -> str:
    return "fits" if max(likely, worst) <= room else "likely" if likely <= room else "no"


def _notes(parts: Sequence[Part], plan_worst: int | None, budget: int, likely: int) -> tuple[str, ...]:
    notes = [
        "the worst case counts every attempt and every try of every call at the most it may reserve; work "
        "that is "
        "run again for a crash or an edit is not counted"
    ]
    if plan_worst is None:
        names = ", ".join(sorted({one.agent for one in parts if one.worst_microusd is None}))
        notes.append(f"what {names} calls is its own code's matter: the budget alone bounds its worst case")
    elif plan_worst > budget:
        notes.append(
            "the plan's worst case is above the budget: then paid work stops, and what is accepted stays"
        )
    if likely > budget:
        notes.append("the likely cost is above the budget: expect it to end for want of money")
    return tuple(notes)
