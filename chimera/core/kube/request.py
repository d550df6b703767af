"""What is asked for a tenant: all that its bundle is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chimera.core.kube.network import ANYWHERE, Opening
from chimera.core.kube.quantity import GI, Size

WORKER = Size(1000, 2 * GI)
"""A worker pod, unless another size is asked for."""


@dataclass(frozen=True, slots=True)
class Request:
    """A tenant's namespace, as it is asked for.

    Attributes:
        tenant: its name.
        namespace: what its namespace is called.
        quota: what it may take, all in all.
        max_agents: agents at once.
        slots: agents at once in one worker.
        worker: one worker pod.
        image: of Chimera.
        hub: the hub's namespace.
        openings: what workers may reach beside Redis and each other.
        api_server: CIDRs where the API server answers.
        settings: more variables of the spoke, none of them a secret.
        suspend: no pod at all, until that is taken back.
    """

    tenant: str
    namespace: str
    quota: Size
    max_agents: int
    slots: int
    image: str
    worker: Size = WORKER
    hub: str = "chimera-system"
    openings: tuple[Opening, ...] = ()
    api_server: tuple[str, ...] = ANYWHERE
    settings: Mapping[str, str] = field(default_factory=dict)
    suspend: bool = False
