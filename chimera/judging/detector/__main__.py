"""``python -m chimera.judging.detector FILE``: precision and recall on a labelled set, as a table.

Each line of FILE is JSON with `text`, `labels` (topics) and `split`; ``--errors`` lists the misses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from chimera.judging.detector.measure import load, measure, table


def main() -> int:
    """Print the table; 0 always, for the bars are the tests' matter."""
    parser = argparse.ArgumentParser(prog="python -m chimera.judging.detector", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--errors", action="store_true", help="list each text that was labelled wrongly")
    arguments = parser.parse_args()
    results = measure(load(arguments.file))
    sys.stdout.write(table(results))
    if arguments.errors:
        for result in results:
            sys.stdout.writelines(f"{result.split} {result.topic} {error}\n" for error in result.errors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
