"""What ends a fleet whose supervisor was killed: a process that does nothing else.

Ray's agents and workers are not children of the supervisor, and some outlive a killed head by a
minute. The reaper holds the read end of a pipe whose only write end is the supervisor's: at its end,
however that came, the reaper ends what is left and goes. It holds the fleet's lock until then.
"""

from __future__ import annotations

import os
import signal

from chimera.serving.local.process import ProcessId
from chimera.serving.local.remains import sweep
from chimera.serving.local.state import StateDir


def fork(state: StateDir) -> ProcessId | None:
    """Fork the reaper; call it before any thread or event loop exists.

    The pipe's write end stays open, and is nobody else's, until this process is gone.

    Returns:
        The reaper, which the fleet's own clean-up spares.
    """
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(reading)
        return ProcessId.of(pid)
    os.close(writing)
    os.setsid()  # no signal meant for the supervisor's group reaches it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(reading, 1)
    sweep(state)
    os._exit(0)
