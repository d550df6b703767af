"""What the hub keeps beside its replicas: the governor's actor, and the catalogue of agents."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import ray
import structlog
from ray.exceptions import ActorUnschedulableError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chimera.errors import BackendError, ConfigurationError
from chimera.runtime.base import Base
from chimera.runtime.outfitter import outfit_of_nobody
from chimera.runtime.service import Service
from chimera.serving.actors import GovernorActor
from chimera.serving.warden import Home, inherited, surroundings

log = structlog.get_logger(__name__)

NAME, NAMESPACE = "governor", "hub"
PING_S, SILENT, UNBORN = 5.0, 3, 24
"""A governor answers within so long, or is silent. One that is so many times in a row is replaced; one that
has not answered once may still be starting, and is given longer."""
DESCRIBING = "chimera.serving.describing"


class GovernorKeeper(Service):
    """Makes the governor when there is none: detached, so that it outlives this replica."""

    name = "governor keeper"
    sweep_s = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._silent = 0
        self._known = ""
        """The last that answered."""

    async def run_once(self) -> None:
        governor = _governor()
        who = governor._actor_id.hex()
        try:
            answers = await asyncio.wait_for(governor.ping.remote(), PING_S)
        except (RayActorError, ActorUnschedulableError) as exc:
            # It is dead: the next pass makes another, under the same name.
            log.warning("governor.dead", error=str(exc).splitlines()[0])
            self._silent = 0
            return
        except TimeoutError:
            answers = False
        if answers:
            self._known, self._silent = who, 0
            return
        self._silent += 1
        if starting := who != self._known:
            log.info("governor.awaited", times=self._silent)
        else:
            log.warning("governor.silent", times=self._silent)
        if self._silent >= (UNBORN if starting else SILENT):
            # Paused, or its loop is held: its term has run out meanwhile, so what it still does is refused.
            log.error("governor.replaced")
            ray.kill(governor)
            self._silent = 0


def _governor() -> Any:
    # Where this replica runs, which is of the hub: a node of workers has no business with money. A node that
    # has gone by then is a failure, and the next pass is another replica's, or on another node.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return (
        ray.remote(GovernorActor)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=0,
            num_cpus=0,
            scheduling_strategy=here,
        )
        .remote()
    )


async def publish_catalogue(base: Base) -> None:
    """Publish the registered agents, as a process of their own describes them: the hub runs no agent's code.

    Raises:
        ConfigurationError: a module of CHIMERA_AGENTS cannot be read.
        BackendError: that process failed.
    """
    with Home() as home:
        described = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", DESCRIBING),
            env={**inherited(os.environ), "TMPDIR": str(home)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        nobodys = outfit_of_nobody(base.settings).model_dump()
        asked = json.dumps({"outfit": nobodys, **surroundings()}).encode() + b"\n"
        said, _ = await described.communicate(asked)
    answer = json.loads(said or b"{}")
    if "error" in answer:
        raise ConfigurationError(answer["error"])
    if "agents" not in answer:
        raise BackendError(f"the agents cannot be described: that process ended with {described.returncode}")
    await base.catalogue.publish(answer["agents"])
