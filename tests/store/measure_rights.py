"""What the check of rights costs: ``python -m tests.store.measure_rights [ROUNDS]``.

The main scripts by a role's user and by the operator, in turns, on a server of their own. It prints the
time of a call by each, at the lower quartile (a busy machine disturbs the others), and their ratio.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles
from typing import Any

from chimera.runtime.base import Base, open_base
from chimera.runtime.users import reconcile
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from chimera.store.ledger import Reservation, Settlement
from chimera.store.rights import Role
from chimera.store.scripts import Scripts
from chimera.store.tasks import HandedIn
from tests.redis_fixtures import logged_in
from tests.store import drive

BATCH = 20
TENANTS = 50
"""Users of so many tenants' workers are there."""

Times = dict[str, list[float]]


async def a_round(operator: Base, by: dict[Role, Base], tenant: str) -> None:
    """The life of some tasks."""
    mission = drive.spec(inputs=list(range(BATCH)))
    await drive.begin(operator, tenant, mission, f"m{time.monotonic_ns()}")
    worker, judge, governor = (by[role].of(tenant) for role in ("worker", "judge", "governor"))
    claims = await drive.claim(worker, BATCH)
    asked = [Reservation(f"h{one.task_id}", one.task_id, one.token, 5, 60) for one in claims]
    await governor.ledger.reserve(asked, term=drive.TERM, by="g")
    await worker.requests.sent([f"h{one.task_id}" for one in claims])
    paid = [Settlement(f"h{one.task_id}", 1) for one in claims]
    await governor.ledger.settle(paid, term=drive.TERM, by="g", **drive.KEEP)
    handed = [HandedIn(one.task_id, one.token, one.state_version, '"done"', []) for one in claims]
    await worker.tasks.submit("w1", handed, max_stale=5)
    held = await drive.review(judge, BATCH)
    await judge.reviews.commit("j1", [(one, drive.verdict()) for one in held], max_stale=5)


async def measure(rounds: int) -> dict[str, tuple[float, float]]:
    """By script: seconds of a call by the operator, and by a role, at the lower quartile."""
    times: dict[str, Times] = {"operator": defaultdict(list), "role": defaultdict(list)}
    current = times["operator"]
    run = Scripts.run

    async def timed(self: Scripts, name: str, keys: Any, *args: Any) -> Any:
        began = time.perf_counter()
        answer = await run(self, name, keys, *args)
        current[name].append(time.perf_counter() - began)
        return answer

    secret = "of a measurement, and of nothing else"
    with tempfile.TemporaryDirectory() as directory, RedisServer(Path(directory), fsync="no") as server:
        settings = load(redis_url=server.url, redis_users="roles", redis_secret=secret)
        async with AsyncExitStack() as stack:
            operator = await open_base(settings)
            stack.push_async_callback(operator.close)
            for number in range(TENANTS):
                await operator.tenants.add(f"t{number}")
            await reconcile(operator)
            roles: dict[Role, Base] = {
                role: await stack.enter_async_context(
                    logged_in(settings, role, "t0" if role == "worker" else "")
                )
                for role in ("worker", "judge", "governor")
            }
            everybody: dict[Role, Base] = dict.fromkeys(roles, operator)
            Scripts.run = timed  # type: ignore[method-assign]  # (for the measurement)
            for number in range(2 * rounds):
                current = times["role" if number % 2 else "operator"]
                await a_round(operator, roles if number % 2 else everybody, "t0")
            Scripts.run = run  # type: ignore[method-assign]  # (for the measurement)
    return {
        name: (quantiles(times["operator"][name])[0], quantiles(times["role"][name])[0])
        for name in sorted(times["role"])
        if name not in {"submit_mission", "plan_tasks", "add_tenant"}
    }


def main() -> None:
    """Print the table."""
    found = asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
    for name, (operator, role) in found.items():
        ratio = role / operator
        sys.stdout.write(f"{name:<18} {operator * 1e6:8.0f} µs {role * 1e6:8.0f} µs   x {ratio:.3f}\n")


if __name__ == "__main__":
    main()
