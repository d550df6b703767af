"""Workers as Ray actors: detached, named, never restarted by Ray. Our controller alone replaces them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress

import ray
from ray.util import list_named_actors

from chimera.serving.actors import WorkerActor
from chimera.serving.titles import is_worker

NAMESPACE = "swarm"
PREFIX = "worker"


class RayBackend:
    """See `chimera.runtime.controller.Backend`. An actor's name is ``worker/<tenant>/<worker id>``."""

    def __init__(self) -> None:
        self._actor = ray.remote(WorkerActor)

    async def start(self, tenant: str, worker_id: str) -> None:
        """Ask Ray for the actor; Ray finds it a node with a free `swarm` place."""
        self._actor.options(
            name=f"{PREFIX}/{tenant}/{worker_id}",
            namespace=NAMESPACE,
            lifetime="detached",
            max_restarts=0,
            max_concurrency=4,
            num_cpus=0,
            resources={"swarm": 1},
        ).remote(tenant, worker_id)

    async def list(self) -> dict[str, str]:
        """Named actors that are alive or starting."""
        found = await asyncio.to_thread(list_named_actors, all_namespaces=True)
        workers = {}
        for actor in found:
            kind, _, rest = actor["name"].partition("/")
            tenant, _, worker_id = rest.partition("/")
            if actor["namespace"] == NAMESPACE and kind == PREFIX and worker_id:
                workers[worker_id] = tenant
        return workers

    async def end(self, tenant: str, worker_id: str, process: str) -> None:
        """Kill the actor, and its process too when it is on this host: a stopped one does not hear Ray."""

        def kill() -> None:
            try:
                actor = ray.get_actor(f"{PREFIX}/{tenant}/{worker_id}", namespace=NAMESPACE)
            except ValueError:
                return  # it is gone
            ray.kill(actor)

        await asyncio.to_thread(kill)
        pid, _, host = process.partition("@")
        if host == socket.gethostname() and pid.isdigit() and is_worker(int(pid)):
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
