"""How many worker pods a tenant may have, and whether they and the head fit what the tenant was given."""

from __future__ import annotations

from dataclasses import dataclass

from chimera.core.kube.quantity import GI, MI, Size
from chimera.errors import ConfigurationError

RAY_HEAD, RAY_HEAD_RESTS = Size(1000, 2 * GI), Size(250, 2 * GI)
SPOKE, SPOKE_RESTS = Size(250, 512 * MI), Size(150, 512 * MI)
AUTOSCALER, AUTOSCALER_RESTS = Size(250, 512 * MI), Size(100, 512 * MI)
"""What each container of the head's pod may take, and what the scheduler keeps free for it."""
HEAD, HEAD_RESTS = RAY_HEAD + SPOKE + AUTOSCALER, RAY_HEAD_RESTS + SPOKE_RESTS + AUTOSCALER_RESTS
"""The head's pod: what a tenant takes that has nothing to do and is not suspended."""
NODE_BYTES = 768 * MI
"""Of a worker pod's memory: Ray's node, its object store, and the worker's process before it has agents."""
LEAST_WORKER = Size(250, GI)
"""KubeRay's own wait for the head takes 200m and 256Mi in each worker pod, before the worker."""
MOST_REPLICAS = 10_000
"""As CHIMERA_MAX_WORKERS allows."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """A tenant's pods, which fit its quota.

    Attributes:
        quota: of the tenant's namespace, all in all.
        worker: one worker pod.
        slots: agents at once in one worker.
        max_agents: agents at once, over all of them.
        replicas: worker pods at the most.
    """

    quota: Size
    worker: Size
    slots: int
    max_agents: int
    replicas: int

    @property
    def taken(self) -> Size:
        """With every pod there."""
        return HEAD + self.worker * self.replicas

    @property
    def agents_mib(self) -> int:
        """What the agents of one worker may allocate together, MiB."""
        return (self.worker.memory - NODE_BYTES) // MI


def sized(*, quota: Size, worker: Size, slots: int, max_agents: int) -> Sizing:
    """As many worker pods as it takes to run `max_agents` at once.

    Raises:
        ConfigurationError: a worker pod is too small, or they do not fit the quota; it says what would.
    """
    if not LEAST_WORKER.within(worker):
        raise ConfigurationError(
            f"a worker pod of {worker} is too small: Ray's node alone takes most of that; give it at least "
            f"--worker-cpu {LEAST_WORKER.written_cpu} --worker-memory {LEAST_WORKER.written_memory}"
        )
    replicas = -(-max_agents // slots)
    if replicas > MOST_REPLICAS:
        raise ConfigurationError(
            f"{max_agents} agents at {slots} a worker are {replicas} worker pods, over {MOST_REPLICAS}: "
            "raise --slots or lower --max-agents"
        )
    made = Sizing(quota, worker, slots, max_agents, replicas)
    if made.taken.within(quota):
        return made
    fit = min((quota.cpu - HEAD.cpu) // worker.cpu, (quota.memory - HEAD.memory) // worker.memory)
    instead = (
        f"which has room for {fit * slots} agents; lower --max-agents to that" if fit > 0 else _none(quota)
    )
    raise ConfigurationError(
        f"{max_agents} agents at {slots} a worker are {replicas} pods of {worker}, and {made.taken} with the "
        f"head's pod of {HEAD}: more than the tenant's {quota}, {instead}, raise --slots, or give it "
        f"--cpu {made.taken.written_cpu} --memory {made.taken.written_memory}"
    )


def _none(quota: Size) -> str:
    return "where the head's pod does not fit" if not HEAD.within(quota) else "where not one worker pod fits"
