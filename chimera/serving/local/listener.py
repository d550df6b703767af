"""The fleet's port: held from the first moment of the fleet to its last, whoever answers on it.

The supervisor listens and never accepts. It lends the listening socket through a Unix socket to each
gateway replica that asks (`chimera.serving.door`). So whoever calls while the gateway is replaced waits in
the kernel's queue and is not refused, an old replica and a new one may answer side by side, and no other
program can take the port meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress
from pathlib import Path

from chimera.errors import ConfigurationError
from chimera.serving.local.ports import require_free

BACKLOG = 2_048
"""Callers that wait while nobody answers; of more, the kernel lets each try again."""


class Listener:
    """A listening socket, and the Unix socket that it is lent through.

    Args:
        path: of the Unix socket, at most 107 bytes, in a directory of the owner's alone.
    """

    def __init__(self, host: str, port: int, path: Path) -> None:
        self._host, self._port, self._path = host, port, path
        self._listening: socket.socket | None = None
        self._lending: socket.socket | None = None

    def open(self) -> None:
        """Listen, and lend from now on; needs a running event loop.

        Raises:
            ConfigurationError: the port is taken, or the address is none of this machine.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            self._listening = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                require_free(self._host, self._port, "CHIMERA_HTTP_PORT")
            raise ConfigurationError(
                f"nothing can listen on {self._host}, port {self._port} ({exc}): "
                "set CHIMERA_HTTP_HOST to an address of this machine"
            ) from exc
        self._path.unlink(missing_ok=True)
        self._lending = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lending.setblocking(False)
        self._lending.bind(str(self._path))
        self._lending.listen()
        asyncio.get_running_loop().add_reader(self._lending, self._lend)

    def close(self) -> None:
        """Listen and lend no more; whoever has borrowed goes on until it closes its own. Twice is fine."""
        if self._lending is not None:
            asyncio.get_running_loop().remove_reader(self._lending)
            self._lending.close()
            self._path.unlink(missing_ok=True)
        if self._listening is not None:
            self._listening.close()
        self._lending = self._listening = None

    def _lend(self) -> None:
        if self._lending is None or self._listening is None:
            return
        # Whoever asked may be gone by now.
        with suppress(BlockingIOError, ConnectionError):
            asking, _ = self._lending.accept()
            with asking:
                socket.send_fds(asking, [b"\0"], [self._listening.fileno()])
