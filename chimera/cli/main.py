"""`chimera`: how a command begins and ends. Every error is one sentence and one exit code."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from chimera.cli.exits import Exit, of_error
from chimera.errors import ChimeraError


def main() -> None:
    """The console script."""
    try:
        # Inside the try, so that Ctrl-C during the imports is no traceback either.
        from chimera.cli.app import app

        app()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # for which the command library leaves with 1
            nobody_reads()
            sys.exit(Exit.COMPLETED)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            nobody_reads()
        raise
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(Exit.INTERRUPTED)
    except ChimeraError as exc:
        tell(exc, str(exc))
    except Exception as exc:  # noqa: BLE001  (the last place: people read it, and get no traceback)
        tell(
            exc,
            f"{type(exc).__name__}: {exc}; nobody foresaw this: run it again with CHIMERA_LOG_LEVEL=debug",
        )


def nobody_reads() -> None:
    """The reader left early, as `head` does: that is no failure, and what is left to write goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def tell(error: Exception, sentence: str) -> NoReturn:
    """Say what is wrong and leave; with CHIMERA_LOG_LEVEL=debug, with the traceback."""
    if os.environ.get("CHIMERA_LOG_LEVEL", "").lower() == "debug":
        raise error
    sys.stderr.write(f"chimera: {sentence}\n")
    sys.exit(of_error(error))
