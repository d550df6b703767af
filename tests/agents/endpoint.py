"""A metered OpenAI-compatible endpoint on loopback: scripted, and a witness of what was asked of it.

It speaks real HTTP over a real socket. Each request takes the next `Turn` of the script; when the
script is used up, the last turn repeats. Its call log is kept outside of everything under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Turn:
    """How one request is answered.

    `never` keeps the connection open and silent; `cut` closes it unanswered; `raw` is sent as the body.

    What is asked for as a stream comes as one: a piece for each word of `text`, `latency_s` before it; then
    `inserted`, the usage, `[DONE]`. After `silent_after` pieces nothing more is said; after `cut_after` the
    connection is cut.
    """

    text: str = "ok"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float = 0.0
    never: bool = False
    cut: bool = False
    raw: str | None = None
    prompt_tokens: int = 10
    completion_tokens: int = 2
    usage: bool = True
    silent_after: int | None = None
    cut_after: int | None = None
    inserted: str = ""
    message: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    body: dict[str, Any]
    headers: dict[str, str]


class MeteredEndpoint:
    """`async with MeteredEndpoint([Turn(status=429), Turn()]) as endpoint: … endpoint.url`."""

    def __init__(self, script: Sequence[Turn] = (Turn(),)) -> None:
        self.script = tuple(script)
        self.seen: list[Seen] = []
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.arrived = asyncio.Event()
        """Set when the first request was read in full."""
        self.silent = asyncio.Event()
        """Set when a stream says nothing more."""
        self.left = asyncio.Event()
        """Set when whoever listened to a silent stream hung up."""
        self._closing = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def calls(self) -> int:
        """Requests read in full."""
        return len(self.seen)

    @property
    def url(self) -> str:
        """What CHIMERA_MODEL_URL takes."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/v1"

    async def __aenter__(self) -> MeteredEndpoint:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._closing.set()
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except asyncio.CancelledError:  # our own end: nothing is left to say
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
            }
            body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        turn = self.script[min(self.calls, len(self.script) - 1)]
        self.seen.append(Seen(body, headers))
        self.arrived.set()
        if turn.never:
            await self._closing.wait()
        if turn.never or turn.cut:
            return False
        await asyncio.sleep(turn.latency_s)
        if body.get("stream") and turn.status == 200 and turn.raw is None:
            return await self._stream(turn, body, reader, writer)
        payload = (turn.raw if turn.raw is not None else self._payload(turn, body)).encode()
        lines = {"content-type": "application/json", "content-length": str(len(payload)), **turn.headers}
        head_out = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {turn.status} Scripted\r\n{head_out}\r\n".encode() + payload)
        await writer.drain()
        return True

    async def _stream(
        self, turn: Turn, body: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        writer.write(f"HTTP/1.1 200 Scripted\r\n{head}\r\n".encode())

        async def say(text: str) -> None:
            writer.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
            await writer.drain()

        shared = {"id": f"scripted-{self.calls}", "object": "chat.completion.chunk", "created": 1}
        shared["model"] = body["model"]
        for number, word in enumerate(turn.text.split()):
            if number == turn.cut_after:
                return False
            if number == turn.silent_after:
                self.silent.set()
                return await self._silence(reader)
            await asyncio.sleep(turn.latency_s)
            delta = {"role": "assistant", "content": f"{word} "}
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            await say(f"data: {json.dumps({**shared, 'choices': [choice], 'usage': None})}\n\n")
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await say(f"data: {json.dumps({**shared, 'choices': [choice]})}\n\n{turn.inserted}")
        asked = (body.get("stream_options") or {}).get("include_usage")
        if turn.usage and asked:
            await say(f"data: {json.dumps({**shared, 'choices': [], 'usage': self._usage(turn, body)})}\n\n")
        await say("data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _silence(self, reader: asyncio.StreamReader) -> bool:
        closing = asyncio.create_task(self._closing.wait())
        leaving = asyncio.create_task(reader.read(1))
        done, waiting = await asyncio.wait({closing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if leaving in done:
            leaving.exception()  # a reset is a hang-up, too
            self.left.set()
        return False

    def _payload(self, turn: Turn, body: Mapping[str, Any]) -> str:
        if turn.status != 200:
            return json.dumps({"error": {"message": "scripted refusal", "type": "scripted", "code": None}})
        answer = {
            "id": f"scripted-{self.calls}",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": turn.text, **(turn.message or {})},
                }
            ],
        }
        return json.dumps(answer | ({"usage": self._usage(turn, body)} if turn.usage else {}))

    def _usage(self, turn: Turn, body: Mapping[str, Any]) -> dict[str, int]:
        used = min(turn.completion_tokens, int(body.get("max_tokens", turn.completion_tokens)))
        self.prompt_tokens += turn.prompt_tokens
        self.completion_tokens += used
        return {
            "prompt_tokens": turn.prompt_tokens,
            "completion_tokens": used,
            "total_tokens": turn.prompt_tokens + used,
        }
