"""A gateway in a process of its own, until it is killed: ``python -m tests.serving.gateway.gateway_alone``.

It says at which port it listens once it does.
"""

from __future__ import annotations

import asyncio
import sys

from chimera.runtime.base import open_base
from chimera.serving.gateway import Hub, create_app
from chimera.settings import load
from tests.serving.gateway.conftest import serve, tcp_socket


async def main() -> None:
    base = await open_base(load())
    with tcp_socket() as listener:
        listener.bind(("127.0.0.1", 0))
        async with serve(create_app(Hub(base)), listener) as url:
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
