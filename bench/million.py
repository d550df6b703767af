"""One large mission from its submission to its last result: `python -m bench.million --inputs 1000000`.

On a fleet of its own, with an agent that does nothing and a schema judge. Inputs are made as they are sent,
and results are counted as they come, so that the client holds neither. Prints a table, writes what it sampled
to bench/results/million.json, and ends with 1 if an input has not exactly one accepted result, the progress
ever went back, or the time was up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from bench import report
from bench.figure import Figure
from bench.site import JUDGE, Site, seconds, site
from bench.usage import OURS, Meter, Usage
from chimera.core.views import ResultView
from chimera.errors import FleetUnavailable, StoreError
from chimera.store.connection import translated

WORKERS, SLOTS = 2, 1_000
EVERY_S = 2.0
SAID = 15
"""Of so many samples one is said at once."""
HUB = ("gateway", "orchestrator", "judge", "governor")
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment.

    Attributes:
        at_s: since the submission began.
        accepted: tasks of the mission; 0 until it stands.
        here: of these, those that had not left Redis.
        redis_bytes: what Redis says it uses.
        resident: bytes by kind of process.
    """

    at_s: float
    accepted: int
    here: int
    redis_bytes: int
    resident: dict[str, int]

    @property
    def hub_bytes(self) -> int:
        """Of all processes of the hub."""
        return sum(self.resident.get(kind, 0) for kind in HUB)


class Tally:
    """Whether each input has one accepted result, and its own: a byte for each, whatever came."""

    def __init__(self, inputs: int) -> None:
        self._times = bytearray(inputs)
        self.wrong: list[str] = []
        """Results that are not those of their inputs."""

    def count(self, one: ResultView) -> None:
        """One result more."""
        number = int(one.task_id.partition(".")[2])
        if number >= len(self._times) or one.result != {"n": number}:
            self.wrong.append(one.task_id)
        else:
            self._times[number] = min(255, self._times[number] + 1)

    @property
    def missing(self) -> int:
        """Inputs without a result."""
        return self._times.count(0)

    @property
    def twice(self) -> int:
        """Inputs with more than one."""
        return len(self._times) - self._times.count(0) - self._times.count(1)


@dataclass
class Course:
    """How the mission went; times in seconds."""

    inputs: int
    submit_s: float = 0.0
    accepted_s: float = 0.0
    """From the beginning of the submission to the last verdict."""
    results_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    used: dict[str, Usage] = field(default_factory=dict)
    tally: Tally = field(default_factory=lambda: Tally(0))

    def figures(self) -> list[Figure]:
        """The lines of the table; those with a bar tell whether it went well."""
        tally, method = self.tally, f"{len(self.samples)} samples, one each {EVERY_S:g} s"
        ours = sum(self.used[kind].cpu_s for kind in OURS if kind in self.used)
        peaks = {kind: most([one.resident.get(kind, 0) for one in self.samples]) for kind in (*HUB, "worker")}
        redis = [one.redis_bytes for one in self.samples]
        told: list[tuple[str, float, str, str]] = [
            ("inputs", self.inputs, "", ""),
            ("submit", self.submit_s, "s", "until it is acknowledged"),
            ("tasks a second", self.inputs / self.accepted_s, "/s", "begin of submit to the last verdict"),
            (
                "CPU a task, Chimera and Redis",
                1e3 * ours / self.inputs,
                "ms",
                "user + system, results included",
            ),
            ("results", self.results_s, "s", "all of them, over HTTP"),
            ("results a second", self.inputs / self.results_s, "/s", ""),
            ("Redis, before", redis[0] / MIB, "MiB", "used_memory"),
            ("Redis, peak", most(redis) / MIB, "MiB", method),
            ("accepted tasks in Redis, peak", most([one.here for one in self.samples]), "", method),
            (
                "hub resident, peak",
                most([one.hub_bytes for one in self.samples]) / MIB,
                "MiB",
                ", ".join(HUB),
            ),
            *((f"{kind} resident, peak", peak / MIB, "MiB", "") for kind, peak in peaks.items()),
        ]
        must: list[tuple[str, float]] = [
            ("inputs without a result", tally.missing),
            ("inputs with more than one result", tally.twice),
            ("results of another input", len(tally.wrong)),
            ("samples whose progress went back", went_back([one.accepted for one in self.samples])),
        ]
        return [
            *(Figure("1M", name, value, unit, method=how) for name, value, unit, how in told),
            *(Figure("1M", name, value, "", 0) for name, value in must),
        ]


def most(values: Sequence[int]) -> int:
    """The largest; 0 of none."""
    return max(values, default=0)


def went_back(values: Sequence[int]) -> int:
    """How often a value is smaller than the one before."""
    return sum(later < earlier for earlier, later in pairwise(values))


async def run(inputs: int) -> Course:
    """Submit, wait, and take the results out."""
    course = Course(inputs, tally=Tally(inputs))
    async with site(max_workers=str(WORKERS), slots=str(SLOTS), max_inputs=str(inputs)) as fleet:
        await fleet.fill(WORKERS, SLOTS)  # what a start costs is B5's
        meter = fleet.meter(EVERY_S)
        began = time.time()
        async with sampled(fleet, meter, course, began) as stands:
            spec = {"goal": "bench", "agent": "bench-noop", "judge": JUDGE, "budget_usd": "10"}
            mission = await fleet.client.submit(spec, inputs=numbers(inputs))
            stands(mission.mission_id)
            course.submit_s = time.time() - began
            say(f"submitted after {course.submit_s:.1f} s")
            mission = await fleet.done(mission.mission_id)
            assert mission.finished_at
            course.accepted_s = seconds(mission.finished_at, began)
            say(f"accepted after {course.accepted_s:.1f} s")
            since = time.monotonic()
            async for result in fleet.client.results(mission.mission_id):
                course.tally.count(result)
            course.results_s = time.monotonic() - since
        course.used = meter.stop()
    return course


def numbers(inputs: int) -> Iterator[int]:
    """The inputs, made as they are asked for."""
    yield from range(inputs)


@asynccontextmanager
async def sampled(fleet: Site, meter: Meter, course: Course, began: float) -> AsyncIterator[Stands]:
    """Sample within the block; tell which mission it is once it stands."""
    stands = Stands()

    async def sample() -> None:
        while True:
            try:
                course.samples.append(one := await look(fleet, meter, stands.mission_id, began))
                if len(course.samples) % SAID == 0:
                    say(f"{one.at_s:.0f} s: {one.accepted:,} accepted, Redis {one.redis_bytes / MIB:.0f} MiB")
            except (StoreError, FleetUnavailable) as exc:  # a sample less
                say(f"no sample: {exc}")
            await asyncio.sleep(EVERY_S)

    sampling = asyncio.create_task(sample())
    try:
        yield stands
        course.samples.append(await look(fleet, meter, stands.mission_id, began))
        if sampling.done():
            await sampling  # it only ends by what it raises
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)


class Stands:
    """The mission that is sampled, once it is known."""

    mission_id = ""

    def __call__(self, mission_id: str) -> None:
        self.mission_id = mission_id


async def look(fleet: Site, meter: Meter, mission_id: str, began: float) -> Sample:
    """One sample."""
    accepted = shelved = 0
    if mission_id:
        accepted = (await fleet.client.mission(mission_id)).accepted
        shelved = await fleet.shelved(mission_id)
    with translated():
        used = int((await fleet.redis.info("memory"))["used_memory"])
    return Sample(time.time() - began, accepted, max(0, accepted - shelved), used, meter.resident)


def say(text: str) -> None:
    """How far it is, for whoever waits."""
    sys.stderr.write(f"{text}\n")


async def bounded(inputs: int, within_s: float) -> Course:
    """The same, ended when the time is up; so is its fleet."""
    async with asyncio.timeout(within_s):
        return await run(inputs)


def main() -> int:
    """Parse, run, tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.million", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--within-s", type=float, default=7_200.0, help="the fleet is ended by then")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    told = parser.parse_args()
    try:
        course = asyncio.run(bounded(told.inputs, told.within_s))
    except TimeoutError:
        say(f"not done within {told.within_s:g} s: ended")
        return 1
    figures = course.figures()
    report.table(figures)
    told.out.mkdir(parents=True, exist_ok=True)
    said = {
        "machine": report.machine(),
        "figures": [one.as_dict() for one in figures],
        "samples": [asdict(one) for one in course.samples],
    }
    (told.out / "million.json").write_text(json.dumps(said, indent=1, ensure_ascii=False), encoding="utf-8")
    return 1 if any(figure.reached is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
