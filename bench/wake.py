"""B5: from no worker at all to the first accepted result, and back to none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from bench.figure import Figure, percentile
from bench.site import site

TRIALS, IDLE_S = 5, 2.0


async def run() -> AsyncIterator[Figure]:
    """Seconds of each way."""
    up, down = [], []
    async with site(idle_s=str(IDLE_S)) as fleet:
        for _ in range(TRIALS):
            began = time.time()
            mission_id = await fleet.submit("bench-noop", [1])
            accepted = await fleet.accepted_at({mission_id})
            up.append(accepted[mission_id] - began)
            while await fleet.workers():  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)
            down.append(time.time() - accepted[mission_id] - IDLE_S)
    method = f"{TRIALS} trials on a live node, the first of them cold"
    yield Figure("B5", "zero to first accepted: median", percentile(up, 0.5), "s", 3, method=method)
    yield Figure("B5", "zero to first accepted: max", max(up), "s")
    yield Figure("B5", "back to zero, after idle_s: max", max(down), "s", method=f"idle_s is {IDLE_S:g}")
