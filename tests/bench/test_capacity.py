"""The capacity model against sums done by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.capacity import AGENTS_A_WORKER, UTILISATION, Costs, cpu, plan

COSTS = Costs(
    task_us={"worker": 200.0, "redis": 100.0, "judge": 150.0},
    waiting_us={"worker": 10.0, "redis": 5.0},
    idle={"worker": 0.01, "redis": 0.02},
    agent_bytes=10_000,
    worker_bytes=100 * 2**20,
    redis_bytes=1_000,
)


def test_cpu_is_that_of_tasks_begun_and_of_agents_that_wait() -> None:
    assert cpu(COSTS, agents=1_000, tasks_a_second=500, workers=3) == pytest.approx(
        {"worker": 0.03 + 0.1 + 0.01, "redis": 0.02 + 0.05 + 0.005, "judge": 0.075}
    )


def test_a_small_fleet_needs_one_of_each() -> None:
    needs = plan(COSTS, agents=1_000, task_s=30)
    assert (needs.redis_shards, needs.hubs, needs.workers, needs.nodes) == (1, {"judge": 1}, 1, 1)
    assert (needs.hub_nodes, needs.usd_hour) == (1, 0.4)
    assert needs.bottleneck == ""


def test_a_million_agents_are_bound_by_what_is_needed_most() -> None:
    needs = plan(COSTS, agents=1_000_000, task_s=30)
    # Redis: 0.02 + 33,333 tasks/s × 100 µs + a million × 5 µs = 8.35 cores; the judge: 5 cores.
    assert needs.cores["redis"] == pytest.approx(8.353, abs=0.01)
    assert needs.redis_shards == 14
    assert needs.hubs == {"judge": 9}
    assert needs.bottleneck == "redis"
    assert needs.redis_gib == pytest.approx(0.93, abs=0.01)


@given(
    agents=st.integers(1, 2_000_000),
    more=st.integers(0, 1_000_000),
    task_s=st.floats(0.1, 3_600),
)
def test_more_agents_never_need_less(agents: int, more: int, task_s: float) -> None:
    small, large = plan(COSTS, agents, task_s), plan(COSTS, agents + more, task_s)
    assert small.workers <= large.workers
    assert small.redis_shards <= large.redis_shards
    assert small.nodes <= large.nodes
    assert small.workers * AGENTS_A_WORKER >= agents
    assert small.cores["redis"] <= small.redis_shards * UTILISATION + 1e-9
