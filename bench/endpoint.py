"""A model that answers every call with "ok" after a while, as cheaply as can be: what calls it is measured.

python -m bench.endpoint --port 9000 --takes-s 2

It reads requests by hand, since a web server's work on a thousand calls at once would be a fifth of what
such a benchmark measures, and none of it ours. It trusts its only caller: no use outside a benchmark.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import cast

import uvloop

ANSWER = json.dumps(
    {
        "id": "bench",
        "object": "chat.completion",
        "created": 0,
        "model": "metered",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60},
    }
).encode()
COST_MICROUSD = 40 * 1 + 20 * 2
"""Of every call, at the prices that bench.site tells the fleet."""


class Meter:
    """Counts the calls of all connections, and how long each takes."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s, self.calls = takes_s, 0


class Connection(asyncio.Protocol):
    """One caller, a request after another."""

    def __init__(self, meter: Meter) -> None:
        self._meter, self._received = meter, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            _, named, length = head.partition(b"content-length:")
            whole = end + 4 + (int(length.split(b"\r\n", 1)[0]) if named else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            self._answer(paid=head.startswith(b"post"))

    def _answer(self, *, paid: bool) -> None:
        if paid:
            self._meter.calls += 1
            asyncio.get_running_loop().call_later(self._meter.takes_s, self._send, ANSWER)
        else:
            self._send(str(self._meter.calls).encode())

    def _send(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def serve(port: int, takes_s: float) -> None:
    """Answer on loopback until cancelled; `GET /calls` tells how many calls there were."""
    meter = Meter(takes_s)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(meter), "127.0.0.1", port, backlog=4_096)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.endpoint")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--takes-s", type=float, default=0.0)
    told = parser.parse_args()
    uvloop.run(serve(told.port, told.takes_s))


if __name__ == "__main__":
    main()
