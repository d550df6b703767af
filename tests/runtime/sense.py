"""An MCP server of the official SDK, in a process of its own: it writes down each event that comes.

    python -m tests.runtime.sense PORT JOURNAL PLAN

PLAN is JSON: how it treats its callers. What it wrote down is on disk before it answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

_cut: ContextVar[list[bool] | None] = ContextVar("cut", default=None)
HERE = Path(__file__).parents[2]


class Sense:
    """The test's side: starts it, kills it, reads what it wrote down."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / "journal"
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.port = chosen.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/mcp"

    async def start(self, **plan: Any) -> None:
        """Until it answers."""
        arguments = [
            sys.executable,
            "-m",
            "tests.runtime.sense",
            str(self.port),
            str(self.journal),
            json.dumps(plan),
        ]
        process = self._process = await asyncio.to_thread(
            subprocess.Popen, arguments, cwd=HERE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"

    def kill(self) -> None:
        """At once, whatever it is at."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def calls(self) -> list[list[dict[str, Any]]]:
        """The events of each call, in the order they came."""
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    def events(self, tenant: str) -> list[dict[str, Any]]:
        """The events of a tenant, as often as they came."""
        return [event for call in self.calls() for event in call if event["tenant"] == tenant]

    def ids(self, tenant: str) -> list[str]:
        return [event["id"] for event in self.events(tenant)]


def make(journal: Path, plan: dict[str, Any]) -> Any:
    """The ASGI app.

    Plan:
        seed, error, hang, cut, broken: how likely a call fails, never returns, loses its reply after it was
            written down, or meets a 500.
        later: what it answers to everything, once it took something.
        refuses: kinds that are never taken.
        delay_s: a call takes so long.
        key: what the header X-Sense-Key must be.
        legacy: only the handshake of before 2026 is understood.
    """
    chance = random.Random(plan.get("seed", 1))
    took: list[bool] = []
    server = MCPServer("sense", log_level="CRITICAL")

    async def take(events: list[dict[str, Any]]) -> str:
        draw = chance.random()
        if draw < plan.get("error", 0):
            raise ToolError("not in the mood")
        if draw < plan.get("error", 0) + plan.get("hang", 0):
            await asyncio.Event().wait()
        if refused := [one["id"] for one in events if one["kind"] in plan.get("refuses", ())]:
            raise ToolError(f"refuses {refused[0]}")
        await asyncio.sleep(plan.get("delay_s", 0))
        with journal.open("a") as lines:
            lines.write(json.dumps(events) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        took.append(True)
        if chance.random() < plan.get("cut", 0) and (cut := _cut.get()) is not None:
            cut.append(True)
        return "taken"

    @server.tool()
    async def record_events(events: list[dict[str, Any]]) -> str:
        """Take events."""
        return await take(events)

    @server.tool()
    async def record_one(event: dict[str, Any], label: str) -> str:
        """Take one event."""
        assert label == event["kind"]
        return await take([event])

    app = server.streamable_http_app(json_response=bool(plan.get("json")))
    broken = random.Random(plan.get("seed", 1))

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        status = 0
        if "key" in plan and headers.get("x-sense-key") != plan["key"]:
            status = 401
        elif plan.get("legacy") and headers.get("mcp-protocol-version", "").startswith("2026"):
            status = 400
        elif "later" in plan and took:
            status = plan["later"]
        elif broken.random() < plan.get("broken", 0):
            status = 500
        if status:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})
            return
        cut: list[bool] = []
        _cut.set(cut)

        async def answer(message: Any) -> None:
            if cut and message["type"] == "http.response.start":
                message = {
                    **message,
                    "headers": [(b"content-length", b"100000"), (b"content-type", b"application/json")],
                }
            await send(message)
            if cut and message["type"] == "http.response.body":
                raise ConnectionError("the reply is lost")

        await app(scope, receive, answer)

    return asgi


async def main(port: int, journal: Path, plan: dict[str, Any]) -> None:
    """Serve until killed."""
    config = uvicorn.Config(make(journal, plan), host="127.0.0.1", port=port, log_level="critical")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.01)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await serving


def repeated(ids: Sequence[str]) -> int:
    """How many came more than once."""
    return sum(count > 1 for count in Counter(ids).values())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])))
