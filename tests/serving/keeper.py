"""A process that is to a cell what a Ray actor is: ``python -m tests.serving.keeper WORKER``.

It takes outfits from stdin, a line each, has the hub's environment, and says how busy its cell is.
"""

from __future__ import annotations

import os
import sys

from chimera.runtime.outfit import Outfit
from chimera.serving.warden import Warden


def say(busy: int) -> None:
    os.write(1, f"slots in use: {busy}\n".encode())


def main() -> None:
    """Until the cell ends, or stdin does."""
    warden = Warden(sys.argv[1], node="", busy=say)
    os.write(1, f"cell {warden.process.pid}\n".encode())
    for line in sys.stdin:
        warden.give(Outfit.model_validate_json(line))


if __name__ == "__main__":
    main()
