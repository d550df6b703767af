"""The head of a cluster of nodes: Ray's head, the hub on it, and the port that the hub answers on.

Whatever ends of it ends all: who runs it (a container's engine) starts it again. All state is in Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from chimera.errors import BackendError, ConfigurationError, StoreTimeout, StoreUnavailable
from chimera.runtime.base import open_base
from chimera.runtime.users import keep_users, reconcile
from chimera.serving.door import DOOR
from chimera.serving.enclosure import see_that_it_can
from chimera.serving.local import child, environment
from chimera.serving.local.listener import Listener
from chimera.serving.local.ports import require_free
from chimera.serving.local.ray_head import RETIRE_S, RayHead
from chimera.serving.local.stages import Stage, StageEvent, StageLog, Status
from chimera.serving.local.supervisor import HUB
from chimera.serving.local.together import together
from chimera.serving.node.login import HUBS, without_operator
from chimera.serving.node.place import Place
from chimera.serving.node.reach import Patience, reason, seen_from, until_asked
from chimera.settings import PREFIX, Settings
from chimera.store.connection import url
from chimera.store.users import keeps_users, without_login

GCS_PORT, DASHBOARD_PORT = 6380, 8265
"""Ray's own choice for the first is Redis' port."""
REDIS_PORT = 6379
START_S = 240.0
"""Containers that start together share a machine's processors: no attempt under way is given up soon."""


class Head:
    """One head, from its start to its end.

    Args:
        settings: the environment, validated.
        place: the node's own.
        app: ``module:function`` that builds the Serve application.
    Raises:
        ConfigurationError: no Redis is named, there is no master secret, or agents must be enclosed, which
            this kernel cannot: the head looks at their modules as enclosed as they run.
    """

    def __init__(self, settings: Settings, place: Place, *, app: str = HUB) -> None:
        see_that_it_can(settings.enclosure)
        self._settings, self._place, self._app = settings, place, app
        self._given, self._login = without_operator(settings)
        self._log = StageLog(place.state.progress)
        self._listener = Listener(settings.http_host, settings.http_port, place.state.door)
        self._ray: RayHead | None = None
        self._host = ""

    async def run(self) -> None:
        """Start, and stay until SIGTERM; then end all.

        Raises:
            ConfigurationError: the environment is wrong.
            BackendError: Ray or the hub did not start, or Ray has ended.
        """
        try:
            await until_asked(self._live())
        finally:
            self._listener.close()
            if self._ray is not None:
                if not await self._ray.retire():
                    said = f"the hub had not ended by itself within {RETIRE_S:g} s; its leases run out"
                    self._log.write(StageEvent(stage=Stage.SERVE, status=Status.FAILED, detail=said))
                await self._ray.stop()
            await asyncio.to_thread(self._place.sweep)
            self._log.write(StageEvent(stage=Stage.FLEET, status=Status.STOPPED))
            self._place.state.forget()

    async def _live(self) -> None:
        async with self._log.stage(Stage.FLEET) as note:
            self._listener.open()
            await self._stage(Stage.REDIS, self._find_redis)
            self._ray = ray = self._ray_head()
            await ray.prepare_deploy(self._app)
            await self._stage(Stage.RAY, self._start_ray)
            note.detail = f"{self._url}, nodes join at {ray.address}"
        keeping = [keep_users(self._settings)] if keeps_users(self._settings) else []
        await together(self._ended(ray), self._stage(Stage.SERVE, self._deployed), *keeping)

    async def _stage(self, stage: Stage, start: Callable[[], Awaitable[str]]) -> None:
        async with self._log.stage(stage) as note:
            note.detail = await start()

    async def _find_redis(self) -> str:
        """Wait for Redis; make the users of its roles; see from which address it is reached."""
        address = without_login(url(self._settings))
        parts = urlsplit(address)
        waiting = Patience(
            lambda why: self._log.write(StageEvent(stage=Stage.REDIS, status=Status.STARTED, detail=why))
        )
        if parts.hostname is None and not self._settings.node_ip:
            raise ConfigurationError(
                f"Redis is at {address}, which is no address of a network: set CHIMERA_NODE_IP to the "
                "address by which other nodes reach this one"
            )
        while True:
            try:
                base = await open_base(self._settings)
                try:
                    if keeps_users(self._settings):
                        await reconcile(base)
                finally:
                    await base.close()
                self._host = self._settings.node_ip or await seen_from(
                    parts.hostname or "", parts.port or REDIS_PORT
                )
            except OSError as exc:
                await waiting.wait(f"waits for Redis at {address}: {reason(exc)}")
            except (StoreUnavailable, StoreTimeout) as exc:
                await waiting.wait(f"waits for Redis at {address}: {exc}")
            else:
                return address

    async def _start_ray(self) -> str:
        ray = self._started()
        await ray.start()
        return f"{ray.dashboard_url} (dashboard)"

    async def _deployed(self) -> str:
        # Without a bound: the judge may have a node of its own, which is not there yet. All else works.
        await self._started().deployed()
        return self._url

    async def _ended(self, ray: RayHead) -> None:
        code = await child.exited(ray.process) if ray.process else 0
        raise BackendError(f"Ray's head ended with code {code}; {child.last_lines(ray.log)}")

    def _started(self) -> RayHead:
        if self._ray is None:
            raise BackendError("Ray's head starts once Redis is there")
        return self._ray

    def _ray_head(self) -> RayHead:
        settings, state = self._given, self._place.state
        port, dashboard = settings.ray_port or GCS_PORT, settings.dashboard_port or DASHBOARD_PORT
        require_free(self._host, port, "CHIMERA_RAY_PORT")
        require_free(self._host, dashboard, "CHIMERA_DASHBOARD_PORT")
        chosen = settings.model_copy(update={"agents": environment.agents(settings.agents)})
        return RayHead(
            state,
            port=port,
            dashboard_port=dashboard,
            places=0,
            env={
                f"{PREFIX}URL": self._url,
                **environment.of_node(chosen, state, host=self._host, secrets=self._login | HUBS),
                DOOR: str(state.door),
            },
            on_retry=lambda said: self._log.write(
                StageEvent(stage=Stage.RAY, status=Status.STARTED, detail=said)
            ),
            host=self._host,
            metrics_port=settings.node_metrics_port,
            agent_port=settings.node_agent_port,
            start_s=START_S,
        )

    @property
    def _url(self) -> str:
        """Where the hub is, as far as this node knows."""
        anywhere = self._settings.http_host in {"0.0.0.0", "::"}  # nosec B104 : compared
        host = self._host if anywhere else self._settings.http_host
        return f"http://{host}:{self._settings.http_port}"
