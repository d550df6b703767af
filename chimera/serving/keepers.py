"""What the hub keeps beside its replicas: the governor's actor, and the catalogue of agents."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import ray
import structlog
from ray.exceptions import RayActorError

from chimera import settings as configuration
from chimera.agents.registry import Registered, Registry
from chimera.errors import BackendError, ConfigurationError
from chimera.runtime.service import Service
from chimera.serving.actors import GovernorActor
from chimera.store.catalogue import Catalogue
from chimera.telemetry.logs import configure

log = structlog.get_logger(__name__)

NAME, NAMESPACE = "governor", "hub"
PING_S = 10


class GovernorKeeper(Service):
    """Makes the governor when there is none: detached, so that it outlives this replica."""

    name = "governor keeper"
    sweep_s = 1.0

    async def run_once(self) -> None:
        try:
            await asyncio.wait_for(_governor().ping.remote(), PING_S)
        except RayActorError as exc:
            # It is dead: the next pass makes another, under the same name.
            log.warning("governor.dead", error=str(exc).splitlines()[0])
        except TimeoutError:
            log.warning("governor.silent", seconds=PING_S)


def _governor() -> Any:
    return (
        ray.remote(GovernorActor)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=0,
            num_cpus=0,
        )
        .remote()
    )


async def publish_catalogue(catalogue: Catalogue) -> None:
    """Publish the registered agents, read in a process of its own: the hub runs no agent's code.

    Raises:
        ConfigurationError: a module of CHIMERA_AGENTS cannot be read.
    """
    try:
        agents = await ray.remote(num_cpus=0, max_retries=2)(_registered).remote()
    except ray.exceptions.RayTaskError as exc:
        # Ray wraps what the task raised; the operator wants to read the sentence itself.
        cause = exc.cause
        raise (cause if isinstance(cause, ConfigurationError) else BackendError(str(cause))) from None
    await catalogue.publish(agents)


def _registered() -> dict[str, dict[str, Any]]:
    """By name. It needs no Redis: what imports agents' code logs in nowhere."""
    settings = configuration.load()
    configure(settings, role="catalogue", stream="stdout")
    registry = Registry.load(settings.agents)
    return {name: about(registry.get(name)) for name in registry}


def about(agent: Registered) -> dict[str, Any]:
    """An agent's catalogue record: JSON."""
    schema = None if agent.options is None else agent.options.model_json_schema()
    return {**asdict(agent.info), "options_schema": schema}
