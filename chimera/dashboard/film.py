"""A mission's film: all of its events, so that any moment, lane or density of it is a few small steps. Pure.

`chimera.core.timeline` says what each event changes; a film adds it up by layer of the mission's roster. Ten
thousand tasks are some seventy thousand changes, each of nine bytes; every `RUNG` of them the counts are put
aside.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from chimera.core.event import Event
from chimera.core.task import TaskStatus
from chimera.core.timeline import ENDS, KEYFRAME, Aside, Timeline
from chimera.dashboard.roster import Roster

UNPLANNED = 8
"""The code of a task that was not made yet; those of the others are their places among `TaskStatus`."""
CODES = tuple(TaskStatus)
BYTES_A_TASK = 134
"""What each takes of a film that has no event yet, once it is made."""
RUNG = 128
"""Changes between two counts that are put aside."""
_CODE = {status: code for code, status in enumerate(CODES)}


class Stretch(NamedTuple):
    """A time that a task stood somewhere, µs since the epoch. `end` is None while it still stands there."""

    status: TaskStatus
    begin_us: int
    end_us: int | None
    attempt: int


@dataclass(slots=True)
class Step:
    """What a layer took so far.

    Attributes:
        claims: attempts begun.
        ends: attempts that ended without a verdict in favour, by kind of event.
        calls, settled: paid calls that ended, and what they cost, µ$.
        judging: of `settled`, what its judges cost.
        refused: reservations that were refused.
        stood_us, stays: how long its tasks stood in each status in all, and how often; by code. Those that
            still stand there are left out.
    """

    claims: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    settled: int = 0
    judging: int = 0
    refused: int = 0
    stood_us: list[int] = field(default_factory=lambda: [0] * (len(CODES) + 1))
    stays: list[int] = field(default_factory=lambda: [0] * (len(CODES) + 1))


class Film:
    """One mission."""

    def __init__(self, roster: Roster, mission_id: str) -> None:
        self.roster, self.mission_id = roster, mission_id
        self.line = Timeline()
        self.steps = [Step() for _ in roster.layers]
        self.now = bytearray([UNPLANNED]) * roster.size
        """The code of each task's status, by number."""
        self._since = array("q", bytes(8 * roster.size))
        self._instants = array("q")
        """Of each event, µs since the epoch; they never go back."""
        self._subjects = array("l")
        """Of each event its task's number; -1 without one."""
        self._events, self._tasks, self._codes = array("l"), array("l"), array("B")
        """Of each change the event that made it, from 1; its task; what that became."""
        self._before = array("B")
        self._counts = [self._none(layer.size) for layer in roster.layers]
        self._rungs = [[counts[:] for counts in self._counts]]
        self._holds: dict[str, tuple[int, int, bool]] = {}
        """Of each grant its layer, what was charged so far, and whether a judge has it."""

    def __len__(self) -> int:
        """How many events it has."""
        return len(self._instants)

    @property
    def weight(self) -> int:
        """About how many bytes it takes: a little more than measured, with short names."""
        frames = len(self) // KEYFRAME
        return 620 * len(self) + 18 * len(self._events) + (BYTES_A_TASK + 17 * frames) * self.roster.size

    @property
    def begin_us(self) -> int:
        """The first event's instant; 0 without one."""
        return self._instants[0] if self._instants else 0

    @property
    def end_us(self) -> int:
        """The last event's instant; 0 without one."""
        return self._instants[-1] if self._instants else 0

    @property
    def epoch(self) -> int:
        """The last event's; 0 without one."""
        return self.line.aside(len(self)).epoch

    def begin_epoch(self, starts: Mapping[int, int]) -> None:
        """Hear behind which number each epoch begins, before the first event of a new one is taken."""
        self.line.learn(starts)

    def take(self, event: Event) -> None:
        """The next event. Those of other missions are passed over."""
        changed = self.line.take(event)
        if len(self.line) == len(self):
            return
        number = self._number(event.task_id)
        last = self.end_us
        self._instants.append(max(last, round(event.at.timestamp() * 1e6)))
        self._subjects.append(-1 if number is None else number)
        for task_id, status in changed:
            self._change(self._number(task_id), UNPLANNED if status is None else _CODE[status])
        if number is not None:
            self._tally(event, self.steps[self.roster.layer_of(number)], number)

    # A moment.

    def aside(self, index: int) -> Aside:
        """What the mission says of itself behind so many events. Raises IndexError."""
        return self.line.aside(index)

    def instant_us(self, index: int) -> int:
        """When so many events were through; of none, when the first came."""
        return self._instants[max(0, index - 1)] if self._instants else 0

    def subject(self, index: int) -> int | None:
        """The task of the last of so many events."""
        number = self._subjects[index - 1] if index else -1
        return None if number < 0 else number

    def counts(self, index: int) -> list[list[int]]:
        """Of each layer, how many tasks stand where behind so many events; by code."""
        changes = bisect_right(self._events, index)
        start = changes // RUNG
        counts = [some[:] for some in self._rungs[start]]
        self._roll(counts, start * RUNG, changes)
        return counts

    def statuses(self, index: int) -> bytearray:
        """Of each task the code of its status behind so many events. It costs a step for each change."""
        codes = bytearray([UNPLANNED]) * self.roster.size
        for change in range(bisect_right(self._events, index)):
            codes[self._tasks[change]] = self._codes[change]
        return codes

    def index_at(self, us: int) -> int:
        """How many events were through at an instant."""
        return bisect_right(self._instants, us)

    def index_of(self, epoch: int, seq: int) -> int:
        """How many events lead to the last one at or before a number of the recorder."""
        return self.line.index_of((epoch, seq))

    # All of it.

    def samples(self, count: int, begin_us: int, end_us: int) -> list[list[list[int]]]:
        """`counts` at instants evenly apart."""
        step = (end_us - begin_us) / max(1, count - 1)
        return [self.counts(self.index_at(round(begin_us + step * at))) for at in range(count)]

    def stretches(self, numbers: Collection[int]) -> dict[int, list[Stretch]]:
        """Where each of these tasks stood since it was made, in order."""
        wanted = frozenset(numbers)
        found: dict[int, list[Stretch]] = {number: [] for number in numbers}
        attempts: Counter[int] = Counter()
        for change, number in enumerate(self._tasks):
            if number not in wanted:
                continue
            at, code = self._instants[self._events[change] - 1], self._codes[change]
            mine = found[number]
            if mine:
                mine[-1] = mine[-1]._replace(end_us=at)
            if code == UNPLANNED:
                mine.clear()  # the store lost that it was made
                continue
            attempts[number] += CODES[code] is TaskStatus.PENDING
            mine.append(Stretch(CODES[code], at, None, attempts[number]))
        return found

    def having(self, codes: Collection[int], layer: int | None = None) -> Iterator[int]:
        """The tasks that stand so now, by number; of one layer where it is named."""
        first, end = 0, self.roster.size
        if layer is not None:
            first = self.roster.layers[layer].first
            end = first + self.roster.layers[layer].size
        wanted = frozenset(codes)
        return (number for number in range(first, end) if self.now[number] in wanted)

    def standing_us(self, number: int) -> int:
        """Since when a task stands where it does; 0 before it was made."""
        return self._since[number]

    # The fold.

    def _number(self, task_id: str) -> int | None:
        mission_id, _, name = task_id.partition(".")
        return self.roster.number(name) if mission_id == self.mission_id else None

    def _change(self, number: int | None, code: int) -> None:
        if number is None or code == (before := self.now[number]):
            return
        at, layer = self.end_us, self.roster.layer_of(number)
        if UNPLANNED not in {before, code}:
            step = self.steps[layer]
            step.stood_us[before] += at - self._since[number]
            step.stays[before] += 1
        self.now[number], self._since[number] = code, at
        self._events.append(len(self))
        self._tasks.append(number)
        self._codes.append(code)
        self._before.append(before)
        self._counts[layer][before] -= 1
        self._counts[layer][code] += 1
        if len(self._events) % RUNG == 0:
            self._rungs.append([counts[:] for counts in self._counts])

    def _roll(self, counts: list[list[int]], start: int, end: int) -> None:
        for change in range(start, end):
            some = counts[self.roster.layer_of(self._tasks[change])]
            some[self._before[change]] -= 1
            some[self._codes[change]] += 1

    def _tally(self, event: Event, step: Step, number: int) -> None:
        kind, details = event.kind, event.details
        if kind == "task.claimed":
            step.claims += 1
        elif kind in ENDS:
            step.ends[kind] += 1
        elif kind == "spend.refused":
            step.refused += 1
        elif kind == "spend.held":
            layer = self.roster.layer_of(number)
            self._holds[str(details.get("hold", ""))] = (layer, -1, details.get("agent") == "judge")
        elif kind in {"spend.settled", "spend.expired", "spend.released"}:
            self._charge(str(details.get("hold", "")), int(details.get("cost", 0)), step)

    def _charge(self, hold: str, cost: int, step: Step) -> None:
        layer, before, judging = self._holds.get(hold, (-1, 0, False))
        if layer < 0:
            return
        more = cost - max(0, before)
        step.calls += before < 0
        step.settled += more
        step.judging += more if judging else 0
        self._holds[hold] = (layer, cost, judging)

    @staticmethod
    def _none(size: int) -> list[int]:
        return [*[0] * len(CODES), size]


def instant(us: int) -> datetime:
    """µs since the epoch → an aware instant."""
    return datetime.fromtimestamp(us / 1_000_000, UTC)


def together(counts: Sequence[Sequence[int]]) -> dict[str, int]:
    """Tasks by status, of several layers; those not planned yet are in none."""
    return {status: sum(some[code] for some in counts) for code, status in enumerate(CODES)}
