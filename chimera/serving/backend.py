"""Workers as Ray actors: detached, named, never restarted by Ray. Our controller alone replaces them."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
from contextlib import suppress
from typing import Any

import ray
from ray.util import list_named_actors

from chimera.serving.actors import WorkerActor
from chimera.serving.titles import is_worker

NAMESPACE = "swarm"
PREFIX, SPARE = "worker", "spare"
PLACE = {PREFIX: "swarm", SPARE: "spare"}
"""The resource each asks for. Spares live where the hub does, and so are there without any other node."""


class RayBackend:
    """See `chimera.runtime.controller.Backend`. An actor's name is ``worker/<tenant>/<worker id>``; a spare's
    is ``spare//<worker id>``, also when it has become a tenant's."""

    def __init__(self) -> None:
        self._actor = ray.remote(WorkerActor)

    async def start(self, tenant: str, worker_id: str) -> None:
        """Ask Ray for the actor; Ray finds it a node with a free place."""
        kind = PREFIX if tenant else SPARE
        self._actor.options(
            name=f"{kind}/{tenant}/{worker_id}",
            namespace=NAMESPACE,
            lifetime="detached",
            max_restarts=0,
            max_concurrency=4,
            num_cpus=0,
            resources={PLACE[kind]: 1},
        ).remote(tenant, worker_id)

    async def spare_places(self) -> int:
        """As the nodes of the cluster offer them together."""
        resources = await asyncio.to_thread(ray.cluster_resources)
        return int(resources.get(PLACE[SPARE], 0))

    async def list(self) -> dict[str, str]:
        """Named actors that are alive or starting."""
        found = await asyncio.to_thread(list_named_actors, all_namespaces=True)
        workers = {}
        for actor in found:
            kind, _, rest = actor["name"].partition("/")
            tenant, _, worker_id = rest.partition("/")
            if actor["namespace"] == NAMESPACE and kind in PLACE and worker_id:
                workers[worker_id] = tenant
        return workers

    async def leaving(self) -> set[str]:
        """Those on nodes that drain: scaled down, or ended by a signal. Ray places nothing there any more."""
        return await asyncio.to_thread(_on_draining_nodes)

    async def end(self, tenant: str, worker_id: str, process: str) -> None:
        """Kill the actor, and its process too when it is on this host: a stopped one does not hear Ray."""

        def kill() -> None:
            for name in (f"{PREFIX}/{tenant}/{worker_id}", f"{SPARE}//{worker_id}"):
                with suppress(ValueError):  # it is gone, or never was of that kind
                    ray.kill(ray.get_actor(name, namespace=NAMESPACE))

        await asyncio.to_thread(kill)
        pid, _, host = process.partition("@")
        if host == socket.gethostname() and pid.isdigit() and is_worker(int(pid)):
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _on_draining_nodes() -> set[str]:
    """Ids of workers on nodes that drain. Ray's own names: Serve asks the same."""
    state: Any = importlib.import_module("ray._private.state").state
    draining = state.get_draining_nodes()
    if not draining:
        return set()
    actors = state.actor_table(None, actor_state_name="ALIVE").values()
    return {actor["Name"].rpartition("/")[2] for actor in actors if actor["Address"]["NodeID"] in draining}
