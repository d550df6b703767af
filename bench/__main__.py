"""Runs benchmarks: `python -m bench`, or some: `python -m bench B1 B3`.

Prints a table; writes bench.json and a picture each into bench/results, where what did not run now keeps its
last figures. Ends with 1 when a bar was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from bench import concurrency, crowd, latency, ledger, recovery, report, sight, throughput, waiting, wake
from bench.figure import Figure

BENCHES: dict[str, Callable[[], AsyncIterator[Figure]]] = {
    "B1": throughput.run,
    "B2": concurrency.run,
    "B3": latency.run,
    "B4": recovery.run,
    "B5": wake.run,
    "B6": ledger.run,
    "B7": crowd.run,
    "B8": waiting.run,
    "B9": sight.run,
}


async def measure(chosen: list[str]) -> list[Figure]:
    """Run them, one after another."""
    figures: list[Figure] = []
    for name in chosen:
        began = time.monotonic()
        module = sys.modules[BENCHES[name].__module__]
        sys.stderr.write(f"{(module.__doc__ or '').splitlines()[0]}\n")
        async for figure in BENCHES[name]():
            figures.append(figure)
            sys.stderr.write(f"  {figure.name}: {report.number(figure.value)} {figure.unit}\n")
        sys.stderr.write(f"  {time.monotonic() - began:.0f} s\n")
    return figures


def main() -> int:
    """Parse, measure, tell."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--publish", action="store_true", help="write what was measured into docs/ as well")
    told = parser.parse_args()
    if unknown := set(told.names) - BENCHES.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(BENCHES)}")
    figures = asyncio.run(measure(told.names or list(BENCHES)))
    report.table(figures)
    known = report.renewed(report.read(told.out), figures)
    report.write(known, told.out)
    if told.publish:
        if missing := BENCHES.keys() - {one.bench for one in known}:
            parser.error(f"a page is published whole: {', '.join(sorted(missing))} never ran")
        report.publish(known, report.machine(), Path(__file__).parents[1] / "docs")
    return 1 if any(figure.reached is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
