"""A metered stand-in for a paid model and for a webhook's receiver: everything written down first.

    python -m chimera.chaos.endpoint --port 9000 --calls FILE --hooks FILE --probes FILE

It answers no question; it counts. ``POST /misbehave {"kind": "refuse" | "hang", "for_s": 3}`` makes it answer
429, or not at all, for a while.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from chimera.chaos.calls import COST_MICROUSD, INPUT_TOKENS, OUTPUT_TOKENS, PROMPT
from chimera.chaos.journal import Journal

SLOWEST_S = 0.4


def app(journal: Journal, hooks: Journal, probes: Journal) -> FastAPI:
    """The endpoint, writing down calls, what the webhook took, and what agents tried that mean harm."""
    made = FastAPI()
    mood: dict[str, Any] = {"kind": "", "until": 0.0}

    @made.post("/misbehave")
    async def misbehave(request: Request) -> dict[str, str]:
        asked = await request.json()
        mood.update(kind=asked["kind"], until=time.monotonic() + asked["for_s"])
        return {"kind": mood["kind"]}

    @made.post("/v1/chat/completions")
    async def complete(request: Request) -> JSONResponse:
        prompt = (await request.json())["messages"][-1]["content"]
        task = prompt.removeprefix(PROMPT)
        kind = mood["kind"] if time.monotonic() < mood["until"] else ""
        if kind == "refuse":
            journal.write(task=task, event="refused")
            return JSONResponse({"error": {"message": "slow down"}}, 429, {"Retry-After": "1"})
        key = request.headers.get("idempotency-key", "")
        journal.write(task=task, event="served", cost=COST_MICROUSD, key=key)
        if kind == "hang":
            await asyncio.sleep(3600)
        await asyncio.sleep(SLOWEST_S * hashlib.sha256(task.encode()).digest()[0] / 255)
        return JSONResponse(
            {
                "id": "chaos",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": "metered",
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
                ],
                "usage": {
                    "prompt_tokens": INPUT_TOKENS,
                    "completion_tokens": OUTPUT_TOKENS,
                    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
                },
            }
        )

    @made.post("/hook/{task}")
    async def hook(task: str, request: Request) -> JSONResponse:
        if mood["kind"] and time.monotonic() < mood["until"]:
            return JSONResponse({"detail": "not now"}, 503)
        hooks.write(task=task, key=request.headers.get("idempotency-key", ""))
        return JSONResponse({})

    @made.post("/probe/{task}")
    async def probed(task: str, request: Request) -> JSONResponse:
        told = await request.json()
        for one in told["attempts"]:
            probes.write(task=task, tenant=told["tenant"], **one)
        return JSONResponse({})

    return made


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(prog="python -m chimera.chaos.endpoint", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--calls", type=Path, required=True, help="journal of the model's calls")
    parser.add_argument("--hooks", type=Path, required=True, help="journal of the webhook")
    parser.add_argument("--probes", type=Path, required=True, help="journal of what agents tried")
    told = parser.parse_args()
    made = app(Journal(told.calls), Journal(told.hooks), Journal(told.probes))
    uvicorn.run(made, host="127.0.0.1", port=told.port, log_level="warning")


if __name__ == "__main__":
    main()
