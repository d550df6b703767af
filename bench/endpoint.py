"""A model that answers every call with "ok" after a while, as cheaply as can be: what calls it is measured.

python -m bench.endpoint --port 9000 --takes-s 2
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

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


def app(takes_s: float) -> Callable[..., Awaitable[None]]:
    """An ASGI application; `GET /calls` tells how many it served."""
    calls = 0

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal calls
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        body = str(calls).encode()
        if scope["method"] == "POST":
            calls += 1
            await asyncio.sleep(takes_s)
            body = ANSWER
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.endpoint")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--takes-s", type=float, default=0.0)
    told = parser.parse_args()
    uvicorn.run(
        app(told.takes_s),
        host="127.0.0.1",
        port=told.port,
        log_level="error",
        access_log=False,
        lifespan="off",
        backlog=4_096,
    )


if __name__ == "__main__":
    main()
