"""The warden: starts a cell, tells it what it may know, and ends when it does.

It runs in the cell's parent, a Ray actor. The two share a pair of connected sockets and nothing else.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from chimera.runtime.outfit import Outfit
from chimera.serving.local.environment import SENSITIVE, places
from chimera.serving.local.remains import MARKER
from chimera.serving.titles import CELL
from chimera.settings import PREFIX
from chimera.telemetry.redaction import conceal

COMMAND = (sys.executable, "-P", "-m", CELL)
CELLS = "CHIMERA_CELLS"
"""The variable that names a directory for those of cells; a local fleet sets it, and removes it."""
READY = b"ready\n"
"""What a spare's cell says when its agents are imported."""
BUSY = re.compile(rb"busy ([0-9]{1,5})\n")
"""What a cell says of its slots: how many are in use."""
LONGEST = 64


class Warden:
    """One cell, from its start to its end.

    Make it in a thread that lives as long as the cell is to: the kernel ends the cell with it.

    Args:
        node: the id of the cluster's node.
        ended: called when the cell has ended, however it did.
        busy: told how many of its slots are in use, when that has changed and now and then. It is a cell's
            word, and so its agents': no more than a number for people to look at.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        node: str,
        ended: Callable[[], None] | None = None,
        busy: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.ready = threading.Event()
        """Set when its agents are imported; for a spare alone."""
        self._worker_id, self._node = worker_id, node
        self._ended = ended or (lambda: os._exit(0))
        self._busy = busy
        self._home = Home()
        self._words, theirs = socket.socketpair()
        self._telling = threading.Lock()
        self._began = False
        with theirs:
            self.process = subprocess.Popen(
                (*COMMAND, worker_id),
                stdin=theirs.fileno(),
                env={**inherited(os.environ), "TMPDIR": str(self._home.path)},
            )
        threading.Thread(target=self._listen, name="cell", daemon=True).start()

    def give(self, outfit: Outfit) -> None:
        """Hand it an outfit: the first begins its work, a further one changes what it has."""
        conceal(*outfit.secrets.values())
        message: dict[str, Any] = {"outfit": outfit.model_dump()}
        with self._telling:
            if not self._began:
                message |= self._surroundings(outfit)
            self._began = True
            with suppress(BrokenPipeError, ConnectionResetError):  # it has just ended: `_listen` hears of it
                self._words.sendall(json.dumps(message).encode() + b"\n")

    def terminate(self) -> None:
        """Ask it to end: it hands back what it holds. One that has nothing yet ends at once."""
        self.process.terminate()

    @property
    def alive(self) -> bool:
        """Whether it lives."""
        return self.process.poll() is None

    def _surroundings(self, outfit: Outfit) -> dict[str, Any]:
        named = {name: os.environ[name] for name in places(outfit.settings.agent_env) if name in os.environ}
        return {
            "worker": self._worker_id,
            "node": self._node,
            "env": named,
            **surroundings(),
        }

    def _listen(self) -> None:
        with self._words.makefile("rb") as said:
            while line := said.readline(LONGEST):  # what is none of these is its agents'
                if line == READY:
                    self.ready.set()
                elif found := BUSY.fullmatch(line):
                    self._busy(int(found[1]))
        self.process.wait()
        self._home.remove()
        self._ended()


class Home:
    """A directory of one cell's own. Whoever dies without removing its own leaves that to the next."""

    def __init__(self) -> None:
        base = Path(os.environ.get(CELLS) or Path(tempfile.gettempdir()) / f"chimera-cells-{os.getuid()}")
        base.mkdir(mode=0o700, exist_ok=True)
        if base.lstat().st_uid != os.getuid() or base.is_symlink():
            raise PermissionError(
                f"{base} is somebody else's: remove it, or set TMPDIR to a directory of yours"
            )
        with _locked(base):
            for other in base.iterdir():
                with suppress(OSError), _locked(other, now=True):
                    shutil.rmtree(other, ignore_errors=True)
            self.path = Path(tempfile.mkdtemp(dir=base))
            # Held as long as this process lives: so nobody has to know whether a number is a process.
            self._held = ExitStack()
            self._held.enter_context(_locked(self.path))

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """It is needed no more."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._held.close()


@contextmanager
def _locked(directory: Path, *, now: bool = False) -> Iterator[None]:
    held = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (fcntl.LOCK_NB if now else 0))
        yield
    finally:
        os.close(held)


def surroundings() -> dict[str, list[str]]:
    """What it takes to enclose a child: where this process finds its modules, and where secrets are."""
    return {
        "path": [str(Path(entry).absolute()) for entry in sys.path if entry],
        "apart": secret_places(),
    }


def secret_places() -> list[str]:
    """Files and directories of secrets, as the environment names them, and Ray's own."""
    named = [
        value
        for name, value in os.environ.items()
        if name in {f"{PREFIX}STATE_DIR", f"{PREFIX}TENANT_SECRETS_DIR", "RAY_AUTH_TOKEN_PATH"}
        or (name.startswith(PREFIX) and name.endswith("_FILE"))
    ]
    return [*named, str(Path("~/.ray").expanduser())]


def inherited(environ: Mapping[str, str], kept: Iterable[str] = ()) -> dict[str, str]:
    """Of an environment what a cell gets: nothing of ours or of Ray's, nothing that is named like a secret.

    Args:
        kept: names that the operator lets through (CHIMERA_AGENT_ENV).
    """
    return {
        name: value
        for name, value in environ.items()
        if name in kept or name == MARKER or not (name.startswith((PREFIX, "RAY_")) or SENSITIVE.search(name))
    }
