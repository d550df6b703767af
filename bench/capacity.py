"""The capacity model: what a fleet of so many agents needs, from what one task and one waiting agent cost.

Pure. A fleet of N agents whose tasks take T seconds starts and ends N / T tasks a second, and renews N leases
every heartbeat; each costs CPU in the worker, in Redis and in the hub. `bench.waiting` measures the costs and
holds the model against two fleets that it runs; docs/scale.md plans with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

UTILISATION = 0.6
"""Of a core: above it, queues grow faster than work."""
WORKER_CORES, WORKER_GIB = 4.0, 16.0
"""A worker node as clouds sell it, less what the node itself takes."""
NODE_USD_HOUR = 0.20
"""What such a node costs on demand; spot is a third of it."""
AGENTS_A_WORKER = 2_500
"""Slots of one worker process: beyond, one event loop lags."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured.

    Attributes:
        task_us: CPU of one task from submit to accepted, by kind of process, µs.
        waiting_us: CPU of one agent that waits, a second, by kind of process, µs.
        idle: cores that one process of each kind takes with nothing to do.
        agent_bytes: resident memory of one waiting agent in its worker.
        worker_bytes: resident memory of a worker without agents.
        redis_bytes: Redis memory of one open task.
    """

    task_us: Mapping[str, float]
    waiting_us: Mapping[str, float]
    idle: Mapping[str, float]
    agent_bytes: float
    worker_bytes: float
    redis_bytes: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes.

    Attributes:
        tasks_a_second: started and ended.
        cores: CPU by kind of process, in cores that are wholly busy.
        redis_shards: masters of Redis Cluster: each runs on one core.
        hubs: processes of each kind of the hub, by kind.
        workers: processes.
        nodes: for workers.
        hub_nodes: for the hub and Redis: a core for each process.
        redis_gib: all shards together.
        usd_hour: of all nodes.
        bottleneck: the kind of process of which most are needed beyond one, or "".
    """

    agents: int
    tasks_a_second: float
    cores: dict[str, float]
    redis_shards: int
    hubs: dict[str, int]
    workers: int
    nodes: int
    hub_nodes: int
    redis_gib: float
    usd_hour: float
    bottleneck: str


def cpu(costs: Costs, agents: float, tasks_a_second: float, workers: int) -> dict[str, float]:
    """Cores by kind of process: so much CPU in each second."""
    kinds = costs.task_us.keys() | costs.waiting_us.keys()
    return {
        kind: costs.idle.get(kind, 0.0) * (workers if kind == "worker" else 1)
        + 1e-6 * (costs.task_us.get(kind, 0.0) * tasks_a_second + costs.waiting_us.get(kind, 0.0) * agents)
        for kind in sorted(kinds)
    }


def plan(costs: Costs, agents: int, task_s: float) -> Plan:
    """A fleet for so many agents at once, whose tasks take so long."""
    rate = agents / task_s
    fewest = math.ceil(agents / AGENTS_A_WORKER)
    cores = cpu(costs, agents, rate, fewest)
    needed = {kind: max(1, math.ceil(busy / UTILISATION)) for kind, busy in cores.items()}
    workers = max(needed.get("worker", 1), fewest)
    memory = agents * costs.agent_bytes + workers * costs.worker_bytes
    nodes = max(
        math.ceil(cores.get("worker", 0.0) / (UTILISATION * WORKER_CORES)),
        math.ceil(memory / (WORKER_GIB * 2**30)),
    )
    others = {kind: count for kind, count in needed.items() if kind != "worker"}
    hub_nodes = math.ceil(sum(others.values()) / WORKER_CORES)
    most = max(others, key=lambda kind: cores[kind], default="")
    return Plan(
        agents=agents,
        tasks_a_second=rate,
        cores=cores,
        redis_shards=needed.get("redis", 1),
        hubs={kind: count for kind, count in others.items() if kind != "redis"},
        workers=workers,
        nodes=nodes,
        hub_nodes=hub_nodes,
        redis_gib=agents * costs.redis_bytes / 2**30,
        usd_hour=(nodes + hub_nodes) * NODE_USD_HOUR,
        bottleneck=most if most and others[most] > 1 else "",
    )
