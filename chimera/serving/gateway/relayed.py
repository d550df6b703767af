"""A chat completion on its way to its reader: server-sent events as OpenAI's clients read them."""

from __future__ import annotations

import asyncio

import orjson
import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from chimera.agents.models.chat import ChatRefused
from chimera.agents.models.endpoint import CallFailed
from chimera.errors import ChimeraError
from chimera.runtime.chats import Stream
from chimera.serving.gateway.spoken import SERVER, Spoken, spoken
from chimera.store.connection import end

log = structlog.get_logger(__name__)

DONE = b"data: [DONE]\n\n"


class Relayed(Response):
    """A stream of events, passed on as they come.

    It ends with a comment that says what the call cost, and `data: [DONE]`; or, where the call failed after
    its first piece, with an error. When its reader leaves, the call hangs up.
    """

    def __init__(self, stream: Stream) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "x-chimera-hold": stream.hold}
        super().__init__(None, 200, headers, "text/event-stream")
        del self.headers["content-length"]
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = self._stream
        watch = asyncio.create_task(self._watch(receive), name="reader of a chat completion")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while pieces := await stream.take():
                await send({"type": "http.response.body", "body": pieces, "more_body": True})
            await send({"type": "http.response.body", "body": _last(stream)})
        finally:
            stream.leave()
            await end(watch)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._stream.leave()


def _last(stream: Stream) -> bytes:
    charge, failure = stream.charge, stream.failure
    said = {"hold": stream.hold}
    cost = {} if charge is None else {"cost_microusd": charge.cost_microusd, "estimated": charge.estimated}
    comment = b": chimera " + orjson.dumps({**said, **cost}) + b"\n\n"
    if failure is None:
        return comment + DONE
    if isinstance(failure, ChimeraError | CallFailed | ChatRefused):
        error = spoken(failure)
    else:
        log.error("chat.crashed", exc_info=failure)
        error = Spoken(500, "an error in Chimera itself: its log has the cause", SERVER, "internal")
    return comment + b"data: " + orjson.dumps(error.body) + b"\n\n"
