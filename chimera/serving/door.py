"""The gateway's own HTTP server, on a socket that the fleet's supervisor lends.

A call that comes through Serve's proxy is unpacked, pickled, sent on, and packed again, by two processes:
that alone costs several times what the gateway does for it. So a local fleet runs no proxy; its gateway
answers itself. Serve still starts the replica, asks for its health and replaces it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chimera.errors import BackendError

DOOR = "CHIMERA_DOOR"
"""The variable that names the Unix socket which lends the fleet's port; a local fleet sets it."""

BORROW_S = 5.0
KEEP_ALIVE_S = 75
"""An idle connection is kept this long: longer than clients do, so that they close first."""
HEAD_S = 30
"""A request's head must be whole within this, on a connection that is new or has answered its last one."""
HEAD_BYTES = 1 << 16
"""Of a head, or of what follows the last piece of a body: the app hears nothing of it before it is whole."""
UNREAD_S = 60.0
"""An answer of which nothing is read for so long is given up."""
GRACE_S = 5
"""Requests under way have this long when the door closes; streams are cut then, and taken up elsewhere."""


class Door:
    """An HTTP server that answers for an app.

    Args:
        listening: the socket; closed with the door.
    """

    def __init__(self, app: Any, listening: socket.socket) -> None:
        self._listening = listening
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Caller,
                ws="none",
                lifespan="off",  # Serve runs the app's, if it has one
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Answer from now on, in the running event loop."""
        self._serving = asyncio.create_task(self._server.serve([self._listening]))

    @property
    def is_open(self) -> bool:
        """Whether callers are answered."""
        return self._serving is not None and not self._serving.done()

    async def close(self) -> None:
        """Take no more callers, and let requests under way end within `GRACE_S`. Twice is fine."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving


class _Server(uvicorn.Server):
    """One that leaves the process' signals to Ray."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Caller(HttpToolsProtocol):
    """One connection. While it waits for a request it does so for `HEAD_S` at most, then it closes.

    uvicorn's own bound is on silence between requests, and only there: it waits for ever on a connection that
    never says anything, for a head that comes byte by byte, for the rest of a body whose request is answered
    already, and for a caller who reads nothing of an answer; and it keeps a head of any size. The body of a
    request under way is the app's to wait for, or not.
    """

    _patience: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _kept = 0
    """Bytes since a head was whole, or a piece of a body came: the parser keeps them."""
    _passed_on = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # (as its base)
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._passed_on = False
        super().data_received(data)
        self._kept = 0 if self._passed_on else self._kept + len(data)
        if self._kept > HEAD_BYTES:
            self.transport.close()
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._wait_no_more()

    def on_headers_complete(self) -> None:
        self._passed_on = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._passed_on = True
        super().on_body(body)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        self._look_no_more()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        self._look_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_S, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _look_again(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(UNREAD_S, self._look, left)

    def _look(self, left: int) -> None:
        """Whether anything was read since so much was left."""
        if self.transport.get_write_buffer_size() < left:
            self._look_again()
        else:
            self.transport.abort()

    def _look_no_more(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


@asynccontextmanager
async def opened(app: Any, path: str) -> AsyncIterator[Door]:
    """A door on the socket that is lent at `path`, closed at the end.

    Raises:
        BackendError: none is lent there.
    """
    door = Door(app, await asyncio.to_thread(borrow, path))
    door.open()
    try:
        yield door
    finally:
        await door.close()


def borrow(path: str) -> socket.socket:
    """The listening socket that is lent at a Unix socket.

    Raises:
        BackendError: none is.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(BORROW_S)
            asking.connect(path)
            _, descriptors, _, _ = socket.recv_fds(asking, 1, 1)
    except OSError as exc:
        raise BackendError(f"nobody lends the fleet's port at {path} ({exc}): the fleet is going") from exc
    if not descriptors:
        raise BackendError(f"nobody lends the fleet's port at {path} any more: the fleet is going")
    os.set_inheritable(descriptors[0], False)
    return socket.socket(fileno=descriptors[0])
