"""Workers as Ray actors: detached, named, never restarted by Ray. Our controller alone replaces them."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray
import structlog
from ray.util import list_named_actors

from chimera.errors import ConfigurationError
from chimera.runtime.outfit import Outfit
from chimera.runtime.outfitter import outfit, outfit_of_spare
from chimera.runtime.secrets import TenantSecrets
from chimera.serving.shell import WorkerActor
from chimera.serving.titles import is_worker, process_here
from chimera.settings import Settings

log = structlog.get_logger(__name__)

NAMESPACE = "swarm"
PREFIX, SPARE = "worker", "spare"
PLACE = {PREFIX: "swarm", SPARE: "spare"}
"""The resource each asks for. Spares live where the hub does, and so are there without any other node."""


class RayBackend:
    """See `chimera.runtime.backend.Backend`. An actor's name is ``worker/<tenant>/<worker id>``; a spare's
    is ``spare//<worker id>``, also when it has become a tenant's.

    Args:
        settings: the hub's own, with all that workers' are derived from.
    """

    def __init__(self, settings: Settings) -> None:
        self._actor = ray.remote(WorkerActor)
        self._settings = settings
        self._secrets = TenantSecrets(settings.tenant_secrets_dir)
        self._names: dict[str, str] = {}
        self._actors: dict[str, Any] = {}
        self._given: dict[str, Outfit] = {}
        self._unusable: dict[str, str] = {}
        """Tenants whose workers cannot be given anything, and why."""

    async def start(self, tenant: str, worker_id: str) -> None:
        """Ask Ray for the actor; Ray finds it a node with a free place."""
        kind = PREFIX if tenant else SPARE
        name = self._names[worker_id] = f"{kind}/{tenant}/{worker_id}"
        self._actors[worker_id] = self._actor.options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            max_restarts=0,
            max_concurrency=4,
            num_cpus=0,
            resources={PLACE[kind]: 1},
        ).remote(tenant, worker_id, self._settings.slots)
        await self.equip({worker_id: tenant})

    async def equip(self, workers: Mapping[str, str]) -> None:
        """Hand over outfits, as arguments of a call: those go from this process to the actor's, and Ray keeps
        no copy that it shows to anybody."""
        outfits = {
            tenant: await asyncio.to_thread(self._outfit, tenant) for tenant in sorted(set(workers.values()))
        }
        for worker_id, tenant in workers.items():
            made = outfits[tenant]
            if made is None or self._given.get(worker_id) == made:
                continue
            if (actor := await self._find(worker_id)) is not None:
                actor.equip.remote(made.model_dump_json().encode())
                self._given[worker_id] = made

    def _outfit(self, tenant: str) -> Outfit | None:
        if not tenant:
            return outfit_of_spare(self._settings)
        try:
            made = outfit(self._settings, tenant, self._secrets.of(tenant))
        except ConfigurationError as exc:
            if self._unusable.get(tenant) != str(exc):
                log.error("worker.unequipped", tenant=tenant, message=str(exc))
            self._unusable[tenant] = str(exc)
            return None
        self._unusable.pop(tenant, None)
        return made

    async def _find(self, worker_id: str) -> Any:
        if worker_id not in self._actors and worker_id in self._names:
            with suppress(ValueError):  # it has just ended
                self._actors[worker_id] = await asyncio.to_thread(
                    ray.get_actor, self._names[worker_id], namespace=NAMESPACE
                )
        return self._actors.get(worker_id)

    async def places(self) -> int:
        """As the nodes of the cluster offer them together."""
        return await _offered(PLACE[PREFIX])

    async def spare_places(self) -> int:
        """As the nodes of the cluster offer them together."""
        return await _offered(PLACE[SPARE])

    async def list(self) -> dict[str, str]:
        """Named actors that are alive or starting."""
        found = await asyncio.to_thread(list_named_actors, all_namespaces=True)
        workers, names = {}, {}
        for actor in found:
            kind, _, rest = actor["name"].partition("/")
            tenant, _, worker_id = rest.partition("/")
            if actor["namespace"] == NAMESPACE and kind in PLACE and worker_id:
                workers[worker_id], names[worker_id] = tenant, actor["name"]
        self._names = names
        self._actors = {one: actor for one, actor in self._actors.items() if one in names}
        self._given = {one: made for one, made in self._given.items() if one in names}
        return workers

    async def leaving(self) -> set[str]:
        """Those on nodes that drain: scaled down, or ended by a signal. Ray places nothing there any more."""
        return await asyncio.to_thread(_on_draining_nodes)

    async def end(self, tenant: str, worker_id: str, process: str) -> None:
        """Kill the actor, and its process too when it is on this host: a stopped one does not hear Ray.

        The process is what the worker's heartbeat says, which its agents can write: only its own is killed.
        """

        def kill() -> None:
            for name in (f"{PREFIX}/{tenant}/{worker_id}", f"{SPARE}//{worker_id}"):
                with suppress(ValueError):  # it is gone, or never was of that kind
                    ray.kill(ray.get_actor(name, namespace=NAMESPACE))

        await asyncio.to_thread(kill)
        pid = process_here(process)
        if pid is not None and is_worker(pid, worker_id):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def _offered(resource: str) -> int:
    return int((await asyncio.to_thread(ray.cluster_resources)).get(resource, 0))


def _on_draining_nodes() -> set[str]:
    """Ids of workers on nodes that drain. Ray's own names: Serve asks the same."""
    state: Any = importlib.import_module("ray._private.state").state
    draining = state.get_draining_nodes()
    if not draining:
        return set()
    actors = state.actor_table(None, actor_state_name="ALIVE").values()
    return {actor["Name"].rpartition("/")[2] for actor in actors if actor["Address"]["NodeID"] in draining}
