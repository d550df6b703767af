"""A chat completion forwarded as it is, whole or piece by piece, with an eye on what it costs.

What the endpoint says is passed on byte by byte; only its usage, its id and its end are read. A piece is an
event of the endpoint's stream. Nothing is read ahead: who takes no piece makes the endpoint wait.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from pydantic import ValidationError

from chimera.agents.models.chat import Chat
from chimera.agents.models.compatible import MOST_BYTES, CompatibleEndpoint, Usage, refusal, whole
from chimera.agents.models.endpoint import CallFailed
from chimera.agents.models.prices import Tokens

PIECE_BYTES = 2**20
"""Of one event of a stream."""
DONE = b"[DONE]"
END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
PassOn: TypeAlias = Callable[[bytes], Awaitable[None]]
LINE = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece."""

    body: bytes
    tokens: Tokens | None
    """None: it says none that can be read."""
    request_id: str


@dataclass(slots=True)
class Metered:
    """What is known of a stream that is under way, or was.

    Attributes:
        tokens: as the endpoint counted them; None: it has not said, or nothing that can be read.
        final: nothing more is to come that would cost anything.
        request_id: the endpoint's own.
    """

    answers: int
    tokens: Tokens | None = None
    final: bool = False
    request_id: str = ""
    _finished: set[Any] = field(default_factory=set)

    def read(self, event: dict[str, Any]) -> bool:
        """Look at an event. True: it tells the usage and nothing else."""
        self.request_id = self.request_id or str(event.get("id") or "")[:200]
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("finish_reason"):
                self._finished.add(choice.get("index", 0))
        if event.get("usage") is None:
            return False
        self.tokens = _tokens(event["usage"])
        # Some count while they answer: what they say before the end is no bill.
        self.final = self.tokens is not None and (not choices or len(self._finished) >= self.answers)
        return not choices


async def forward(
    endpoint: CompatibleEndpoint, data: bytes, *, timeout_s: float, call: str = "", traceparent: str = ""
) -> Whole:
    """Ask for an answer in one piece.

    Raises:
        CallFailed: see there; with `Refused`, what the endpoint said.
    """
    async with endpoint.posted(data, timeout_s=timeout_s, call=call, traceparent=traceparent) as response:
        body = await whole(response)
    if not 200 <= response.status < 300:
        raise Refused.of(response.status, body, dict(response.headers))
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
        raise CallFailed("it answered what is no chat completion", True, True)
    return Whole(body, _tokens(answer.get("usage")), str(answer.get("id") or "")[:200])


async def relay(
    endpoint: CompatibleEndpoint,
    data: bytes,
    chat: Chat,
    metered: Metered,
    pass_on: PassOn,
    *,
    silence_s: float,
    timeout_s: float,
    traceparent: str = "",
) -> None:
    """Ask for an answer piece by piece, and pass on each event as it came, but for the last (`data: [DONE]`).

    Cancelled, it hangs up.

    Args:
        metered: told of all that comes.
        pass_on: awaited with each event; with b"" first: the endpoint has taken the call.
        silence_s: the endpoint must say something within this.
        timeout_s: for all of it.
    Raises:
        CallFailed: see there; as `Refused`, what the endpoint said.
    """
    now = asyncio.get_running_loop().time
    events = Events()
    try:
        async with (
            asyncio.timeout(silence_s) as silence,
            endpoint.posted(
                data, timeout_s=timeout_s, connect_s=silence_s, traceparent=traceparent
            ) as response,
        ):
            if not 200 <= response.status < 300:
                raise Refused.of(response.status, await whole(response), dict(response.headers))
            silence.reschedule(None)
            await pass_on(b"")
            while not events.over:
                silence.reschedule(now() + silence_s)
                chunk = await response.content.readany()
                silence.reschedule(None)  # it is the reader's turn
                for event in events.of(chunk):
                    if _counts(event, metered, chat.wants_usage):
                        await pass_on(event)
    except TimeoutError as exc:
        raise CallFailed(f"nothing came of its stream for {silence_s:g} s", True, True) from exc
    if metered.tokens is not None and events.done:
        metered.final = True
    if not (metered.final or events.done):
        raise CallFailed("its stream broke off", True, True)


class Events:
    """Cuts a stream into events.

    Attributes:
        done: the event that is the last came; it is none of those given.
        over: nothing more comes.
    """

    def __init__(self) -> None:
        self.done = self.over = False
        self._buffer, self._size, self._looked = bytearray(), 0, 0

    def of(self, chunk: bytes) -> Iterator[bytes]:
        """The events that are whole with this chunk, each with the empty line that ends it.

        Args:
            chunk: b"" is the stream's end.
        Raises:
            CallFailed: the answer, or an event, is too large.
        """
        buffer = self._buffer
        self._size += len(chunk)
        if self._size > MOST_BYTES:
            raise CallFailed(f"its answer is over {MOST_BYTES:,} bytes", True, False)
        buffer += chunk
        if not chunk:
            self.over = True
            buffer += b"\n\n" if buffer.strip() else b""
        while not self.done and (end := END.search(buffer, self._looked)):
            event, self._looked = bytes(buffer[: end.end()]), 0
            del buffer[: end.end()]
            if _data(event).strip() == DONE:
                self.done = self.over = True
            else:
                yield event
        self._looked = max(0, len(buffer) - 3)  # an end may be there in part
        if len(buffer) > PIECE_BYTES:
            raise CallFailed(f"a piece of its answer is over {PIECE_BYTES:,} bytes", True, False)


class Refused(CallFailed):
    """The endpoint answered with a status that is no success.

    Args:
        status: its status.
        said: its body, if it is an error as OpenAI writes one; else None.
    """

    status: int = 0
    said: dict[str, Any] | None = None

    @classmethod
    def of(cls, status: int, body: bytes, headers: dict[str, str]) -> Refused:
        """What an answer's status, body and headers say."""
        failure = refusal(status, body, headers)
        made = cls(failure.reason, failure.sent, failure.retryable, failure.retry_after_s)
        made.status = status
        try:
            error = orjson.loads(body)
        except orjson.JSONDecodeError:
            return made
        inner = error.get("error") if isinstance(error, dict) else None
        made.said = inner if isinstance(inner, dict) else None
        return made


def _counts(event: bytes, metered: Metered, wants_usage: bool) -> bool:
    """Note what an event says. Whether it is the client's, too."""
    said = _data(event)
    if not said:
        return True  # a comment: the endpoint lives
    return not metered.read(_read(said)) or wants_usage


def _data(event: bytes) -> bytes:
    lines = [line[5:].removeprefix(b" ") for line in LINE.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines)


def _read(said: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(said)
    except orjson.JSONDecodeError as exc:
        raise CallFailed("its stream has a piece that is no JSON", True, True) from exc
    if not isinstance(event, dict):
        raise CallFailed("its stream has a piece that is no JSON object", True, True)
    if event.get("error"):
        raise CallFailed(f"its stream ended with an error ({_said(event['error'])})", True, True)
    return event


def _said(error: Any) -> str:
    return str(error.get("message") if isinstance(error, dict) else error)[:200]


def _tokens(usage: Any) -> Tokens | None:
    try:
        tokens = Usage.model_validate(usage).tokens
    except ValidationError:
        return None
    return tokens if tokens.believable else None
