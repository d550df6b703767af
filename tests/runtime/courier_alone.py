"""A courier in a process of its own, until it is killed: ``python -m tests.runtime.courier_alone``."""

from __future__ import annotations

import asyncio

from chimera.runtime.base import open_base
from chimera.runtime.courier import Courier
from chimera.settings import load
from chimera.store import keys
from chimera.store.signals import Wakeups


async def main() -> None:
    base = await open_base(load())
    async with Wakeups(base.blocking, keys.ERRANDS) as wakeups:
        Courier(base, "alone", wakeups).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
