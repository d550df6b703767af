"""`python -m chimera.serving.local`: the supervisor of a local fleet, in the foreground.

`chimera up` starts it in the background, with the lock already held (``--lock-fd``).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import ExitStack

from chimera.errors import BackendError, ConfigurationError
from chimera.serving.local import reaper, remains
from chimera.serving.local.state import StateDir
from chimera.serving.local.supervisor import HUB, Supervisor, check_ports
from chimera.settings import load
from chimera.telemetry.logs import begin


def main() -> int:
    """Run a fleet until SIGTERM or SIGINT; 0, 1 when it failed, 2 when the environment is wrong."""
    parser = argparse.ArgumentParser(prog="python -m chimera.serving.local", description=__doc__)
    parser.add_argument("--app", default=HUB, help="module:function that builds the Serve application")
    parser.add_argument("--lock-fd", type=int, help="descriptor of the lock, held by the caller")
    options = parser.parse_args()
    begin("supervisor", "stderr", capture_print=False)
    try:
        with ExitStack() as held:
            settings = load()
            state = StateDir(settings.state_dir)
            os.environ[remains.MARKER] = state.id
            if options.lock_fd is None and held.enter_context(state.locked()) is None:
                raise ConfigurationError(f"a fleet runs in {state.path} already: `chimera down` ends it")
            remains.sweep(state)
            state.forget()
            state.prepare()
            check_ports(settings)
            spare = reaper.fork(state)
            return asyncio.run(Supervisor(settings, state, app=options.app, reaper=spare).run())
    except (BackendError, ConfigurationError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2 if isinstance(exc, ConfigurationError) else 1


if __name__ == "__main__":
    sys.exit(main())
