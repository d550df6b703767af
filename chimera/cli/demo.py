"""`chimera demo`: a local fleet, real work, a budget that refuses, a worker that is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from chimera.cli import output
from chimera.cli.exits import Exit
from chimera.cli.fleet import package
from chimera.cli.output import Format, Output
from chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from chimera.settings import Settings

ELSEWHERE = ("URL", "API_KEY", "REDIS_URL", "REDIS_PASSWORD", "BLOB_URL")
"""Settings that would lead the demo to somebody's real fleet: it brings its own."""
AGENTS = ("examples/agents/word_count.py", "examples/agents/patient_count.py")
MISSIONS = "examples/missions"


def demo(output_format: Output = Format.TEXT) -> None:
    """The tour: starts a fleet of its own, runs three missions, kills a worker, ends everything.

    It uses a directory and a Redis of its own, and port 8000 (CHIMERA_HTTP_PORT). On a terminal the
    fleet stays until Enter; without one it ends by itself. Ctrl-C ends all of it at any moment.

    \b
    Example:
      chimera demo
    """
    from chimera.cli.demoacts import Acts

    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    chosen = environment()
    local, root = package(), checkout()
    owner = claim(chosen)
    try:
        # What a demo that was killed left behind; the owner file says that none is at work.
        local.down(chosen)
        code = Acts(chosen, root, output_format).perform(list(map(root.joinpath, AGENTS)))
    except KeyboardInterrupt:
        output.note("interrupted: ending the fleet")
        code = Exit.INTERRUPTED
    finally:
        # From here on a second Ctrl-C would only leave processes behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        local.down(chosen)
        owner.unlink(missing_ok=True)
    output.note("nothing is left running" if code is Exit.INTERRUPTED else "the fleet has ended")
    output.leave(code)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def environment() -> Settings:
    """The caller's settings, in a state directory of the demo's own and on Redis of its own."""
    from chimera import settings

    for name in ELSEWHERE:
        os.environ.pop(f"{settings.PREFIX}{name}", None)
        os.environ.pop(f"{settings.PREFIX}{name}_FILE", None)
    return settings.load(state_dir=settings.load().state_dir / "demo")


def checkout() -> Path:
    """The directory that holds `examples/`.

    Raises:
        ConfigurationError: there is none here; the demo's missions are part of the repository.
    """
    import chimera

    for root in (Path.cwd(), Path(str(chimera.__file__)).parents[1]):
        if (root / MISSIONS).is_dir():
            return root
    raise ConfigurationError(f"there is no {MISSIONS} here: run the demo in a checkout of the repository")


def claim(chosen: Settings) -> Path:
    """Make this the only demo of its state directory.

    Returns:
        The file that says so; remove it at the end.
    Raises:
        ConfigurationError: another one is at work.
    """
    from chimera.serving.local.process import ProcessId

    chosen.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = chosen.state_dir / "demo.json"
    try:
        other = ProcessId.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValueError):
        other = None
    if other is not None and other.is_alive():
        raise ConfigurationError(
            f"another demo is at work (pid {other.pid}): end it there with Enter or Ctrl-C, "
            "or set CHIMERA_STATE_DIR and CHIMERA_HTTP_PORT to others for this one"
        )
    own = ProcessId.of(os.getpid())
    if own is None:
        raise ConfigurationError("/proc does not show this process: the demo needs Linux's /proc")
    file.write_text(own.model_dump_json(), encoding="utf-8")
    return file


def on_terminal() -> bool:
    """Whether a person sits there: to read, and to press Enter."""
    return sys.stdin.isatty() and sys.stdout.isatty()
