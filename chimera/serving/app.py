"""The hub as a Ray Serve application: three deployments, each a plain class wrapped once.

`serve_config.yaml` names `build` and holds the same shape; behaviour comes from the environment.
"""

from __future__ import annotations

from typing import Any

from ray import serve

from chimera import settings as configuration
from chimera.serving.replicas.gateway import Gateway
from chimera.serving.replicas.judge import Judge
from chimera.serving.replicas.orchestrator import Orchestrator

SMALL: dict[str, Any] = {"num_cpus": 0.1}
"""Hub replicas wait more than they compute: they must fit beside workers on two cores."""
A_SHARE = 0.001
"""Of a node's resource: to be placed there, and leave room for any number of others."""
HEALTH: dict[str, Any] = {"health_check_period_s": 2, "health_check_timeout_s": 10}
"""How often Serve asks, and when no answer counts as a bad one; after three it replaces a replica."""


def build(args: dict[str, Any]) -> serve.Application:
    """The application. `args` is Serve's; this one takes none.

    Raises:
        ConfigurationError: the environment is wrong.
    """
    # One leads; with it and a worker dead, the other has that worker's tasks back at work in time.
    orchestrator = serve.deployment(name="Orchestrator", num_replicas=2, ray_actor_options=SMALL, **HEALTH)(
        Orchestrator
    )
    resource = configuration.load().judge_resource
    placed = {"num_cpus": 0, "resources": {resource: A_SHARE}} if resource else SMALL
    judge = serve.deployment(name="Judge", num_replicas=1, ray_actor_options=placed, **HEALTH)(Judge)
    gateway = serve.deployment(
        name="Gateway",
        num_replicas=1,
        ray_actor_options=SMALL,
        max_ongoing_requests=1_000,
        **HEALTH,
    )(serve.ingress()(Gateway))
    return gateway.bind(orchestrator.bind(), judge.bind())
