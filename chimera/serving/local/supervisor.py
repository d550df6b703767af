"""The supervisor: one process that starts a local fleet, keeps it alive and ends it.

    redis ─┬─ model
           └─ ray ─┬─ serve
                   └─ nodes

Redis and the model are restarted on their old ports when they die, Ray with the hub on it as well:
all state is in Redis. Too many deaths in a row end the fleet.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from chimera.core.scope import ALL, FLEET
from chimera.errors import BackendError, ChimeraError, ConfigurationError, StoreUnavailable
from chimera.runtime.users import keep_users
from chimera.serving.local import autoscaling, child, environment, remains
from chimera.serving.local.handback import give_back
from chimera.serving.local.listener import Listener
from chimera.serving.local.model_server import ModelServer
from chimera.serving.local.ports import LOOPBACK, free_port, require_free
from chimera.serving.local.process import ProcessId
from chimera.serving.local.ray_head import RayHead
from chimera.serving.local.ray_node import RayNode
from chimera.serving.local.redis_server import RedisServer
from chimera.serving.local.stages import Stage, StageEvent, StageLog, Status
from chimera.serving.local.state import TENANT, Fleet, StateDir
from chimera.serving.local.together import together
from chimera.settings import Settings
from chimera.store import connection
from chimera.store.apikeys import ApiKeys
from chimera.store.tenants import TenantStore
from chimera.store.users import UserStore, without_login
from chimera.version import __version__

MAXMEMORY_BYTES = 1 << 30
"""Of the embedded Redis: room for more than a million unfinished tasks."""

DEATHS, DEATHS_S = 5, 60.0
"""A child that dies more often than this within so many seconds ends the fleet."""

SPARE_PLACES = 1
"""Room for a worker's replacement beside the one that is going."""

NODE_GOES_S = 5.0
"""A node that is told to end takes this long beyond what its workers may."""

STOP_S = 12.0
"""A whole stop takes less; `down` kills after this."""

HUB = "chimera.serving.app:build"


class Supervisor:
    """One local fleet, from its start to its end.

    Args:
        settings: the environment, validated.
        state: its directory, prepared and locked by the caller.
        app: ``module:function`` that builds the Serve application.
        reaper: the process that sweeps when this one was killed; spared until then.
    """

    def __init__(
        self, settings: Settings, state: StateDir, *, app: str = HUB, reaper: ProcessId | None = None
    ) -> None:
        self._settings = environment.with_users(settings, state)
        self._state, self._app = state, app
        self._reaper = {reaper} if reaper else set()
        self._log = StageLog(state.progress)
        self._stopping = asyncio.Event()
        self._children: dict[str, ProcessId] = {}
        self._missing: set[Stage] = {Stage.FLEET}
        """What is not there yet, or not at the moment."""
        self._started_at = datetime.now(UTC)
        embedded_model = not settings.model and not settings.model_url
        given_key = settings.model_api_key.get_secret_value() if settings.model_api_key else ""
        self._model_key = given_key or (secrets.token_urlsafe(24) if embedded_model else "")
        marked = environment.of_supervisor(settings, state)
        self._redis = (
            RedisServer(state.redis, fsync=settings.fsync, maxmemory_bytes=MAXMEMORY_BYTES, env=marked)
            if settings.redis_url is None
            else None
        )
        self._redis_url = (
            self._redis.url
            if self._redis
            else settings.redis_url.get_secret_value()
            if settings.redis_url
            else ""
        )
        model_env = {**marked, "CHIMERA_MODEL_API_KEY": self._model_key}
        self._model = (
            ModelServer(free_port(), state.logs / "model.log", model_env) if embedded_model else None
        )
        self._hub_env = environment.of_hub(
            self._settings,
            state,
            redis_url=self._redis_url,
            model_url=self._model.url if self._model else "",
            model_api_key=self._model_key,
        )
        self._ray = self._ray_head()
        self._ray_up = asyncio.Event()
        self._listener = Listener(settings.http_host, settings.http_port, state.door)
        self._nodes = self._ray_nodes()

    def stop(self) -> None:
        """Ask for the end; `run` returns when nothing is left."""
        self._stopping.set()

    async def run(self) -> int:
        """Start everything, keep it alive until `stop`, end everything.

        Returns:
            0 after an orderly end, 1 when the fleet failed, 2 when the environment is wrong.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        code, stopping = 0, asyncio.ensure_future(self._stopping.wait())
        living = asyncio.ensure_future(self._live())
        try:
            await asyncio.wait({stopping, living}, return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                await living
        except ConfigurationError:
            code = 2
        except ChimeraError:
            code = 1
        finally:
            living.cancel()
            stopping.cancel()
            await asyncio.gather(living, stopping, return_exceptions=True)
            await self._end()
        return code

    async def _live(self) -> None:
        async with self._log.stage(Stage.FLEET) as note:
            self._listener.open()
            self._record()
            await self._stage(Stage.REDIS, self._start_redis)
            model = [self._stage(Stage.MODEL, self._start_model)] if self._model else []
            await together(self._start_hub(), *model)
            self._missing.discard(Stage.FLEET)
            self._record()
            note.detail = self._url
        guards = [self._guard(Stage.RAY, self._ray_ended, self._restart_hub)]
        if self._redis:
            guards.append(self._guard(Stage.REDIS, self._redis_ended, self._start_redis))
        if self._by_role:
            guards.append(self._keep_users())
        if self._model:
            guards.append(self._guard(Stage.MODEL, self._model_ended, self._start_model))
        guards += [
            self._guard(Stage.NODE, partial(self._node_ended, node), partial(self._start_node, node))
            for node in self._nodes
        ]
        await together(*guards)

    async def _stage(self, stage: Stage, start: Callable[[], Awaitable[str]]) -> None:
        async with self._log.stage(stage) as note:
            note.detail = await start()
            self._record()

    async def _start_redis(self) -> str:
        """Start the embedded Redis if there is one; see that either is usable; let the local key in."""
        if self._redis:
            self._redis.kill()  # one that started and could not be used; its data is on disk
            process = self._redis.spawn()
            self._children["redis"] = child.identity(process)
            await asyncio.to_thread(self._redis.wait_ready)
        url = self._redis_url
        chosen = self._settings.model_copy(update={"redis_url": SecretStr(url)})
        client = connection.connect(chosen)
        try:
            await connection.prepare(client)
            tenants = TenantStore(client)
            await tenants.add(TENANT)
            api_keys = ApiKeys(client)
            await api_keys.let_in(TENANT, _read(self._state.api_key))
            await api_keys.let_in(FLEET, _read(self._state.admin_key), ALL)
            if self._by_role:
                await UserStore(client, chosen).reconcile(await tenants.names())
        except StoreUnavailable as exc:
            raise ConfigurationError(f"{exc} (it is {without_login(url)})") from exc
        finally:
            await client.aclose()
        return f"{without_login(url)} ({'a user for each role' if self._by_role else 'one user for all'})"

    @property
    def _by_role(self) -> bool:
        return self._settings.redis_users == "roles"

    async def _keep_users(self) -> None:
        """It alone has the operator's login: users that a restart of Redis took are made again."""
        await keep_users(self._settings.model_copy(update={"redis_url": SecretStr(self._redis_url)}))

    async def _start_model(self) -> str:
        if self._model is None:
            raise BackendError("no embedded model belongs to this fleet")
        self._children["model"] = child.identity(await self._model.start())
        return self._model.url

    async def _start_hub(self) -> None:
        await self._ray.prepare_deploy(self._app)
        await self._stage(Stage.RAY, self._start_ray)
        nodes = [self._stage(Stage.NODE, partial(self._start_node, node)) for node in self._nodes]
        await together(self._stage(Stage.SERVE, self._start_serve), *nodes)

    async def _start_ray(self) -> str:
        await self._ray.start()
        if self._ray.process:
            self._children["ray"] = child.identity(self._ray.process)
        self._ray_up.set()
        return f"{self._ray.dashboard_url} (dashboard)"

    async def _start_serve(self) -> str:
        await self._ray.serve(self._url)
        return self._url

    async def _start_node(self, node: RayNode) -> str:
        await self._ray_up.wait()
        self._children[node.name] = child.identity(node.start())
        return node.name

    async def _restart_hub(self) -> str:
        # A node is of no use to the next head: each is swept here, and its guard starts it anew.
        self._ray_up.clear()
        await self._ray.stop()
        kept = {process for name, process in self._children.items() if name in ("redis", "model")}
        spared = self._reaper | kept
        await asyncio.to_thread(remains.sweep, self._state, spare=spared)
        await self._give_back()
        await self._ray.prepare_deploy(self._app)
        await self._start_ray()
        return await self._start_serve()

    async def _give_back(self) -> None:
        if self._redis is None or self._redis.running:
            chosen = self._settings.model_copy(update={"redis_url": SecretStr(self._redis_url)})
            await give_back(chosen, "supervisor")

    async def _redis_ended(self) -> int:
        return await child.exited(self._redis.process) if self._redis else 0

    async def _model_ended(self) -> int:
        return await child.exited(self._model.process) if self._model and self._model.process else 0

    async def _ray_ended(self) -> int:
        return await child.exited(self._ray.process) if self._ray.process else 0

    async def _node_ended(self, node: RayNode) -> int:
        return await child.exited(node.process) if node.process else 0

    async def _guard(
        self, stage: Stage, ended: Callable[[], Awaitable[int]], start: Callable[[], Awaitable[str]]
    ) -> None:
        """Start a child again whenever it dies; one that dies while it starts has died once more.

        Raises:
            BackendError: it dies too often.
        """
        deaths: deque[float] = deque(maxlen=DEATHS)
        while True:
            code = await ended()
            said = f"it ended with code {code}"
            self._log.write(StageEvent(stage=stage, status=Status.STOPPED, detail=said))
            self._missing.add(stage)
            self._record()
            while stage in self._missing:
                deaths.append(time.monotonic())
                if len(deaths) == DEATHS and deaths[-1] - deaths[0] < DEATHS_S:
                    raise BackendError(
                        f"{stage} ended {DEATHS} times within {DEATHS_S:g} s: see {self._state.logs}"
                    )
                try:
                    await self._stage(stage, start)
                except ChimeraError:
                    continue  # the stage has said why
                self._missing.discard(stage)
            self._record()

    async def _end(self) -> None:
        """End everything; Redis last, for the others still write to it."""
        began = time.monotonic()
        self._listener.close()
        await asyncio.gather(*(node.stop() for node in self._nodes))
        await self._ray.stop()
        if self._model:
            await child.end(self._model.process, grace_s=2)
        spared = self._reaper | {process for name, process in self._children.items() if name == "redis"}
        await asyncio.to_thread(remains.sweep, self._state, spare=spared)
        await self._give_back()
        if self._redis:
            await asyncio.to_thread(self._redis.stop)
        self._state.forget()
        seconds = round(time.monotonic() - began, 2)
        self._log.write(StageEvent(stage=Stage.FLEET, status=Status.STOPPED, seconds=seconds))

    @property
    def _url(self) -> str:
        return f"http://{self._settings.http_host}:{self._settings.http_port}"

    def _ray_head(self) -> RayHead:
        settings, port, env = self._settings, self._settings.ray_port or free_port(), self._hub_env
        config = None
        if settings.nodes and settings.node_idle_s:
            env = {**env, **autoscaling.ENVIRONMENT}
            config = autoscaling.write(
                self._state.path / "autoscaling.json",
                address=f"{LOOPBACK}:{port}",
                nodes=settings.nodes,
                places=self._places_of_a_node,
                idle_s=settings.node_idle_s,
            )
        return RayHead(
            self._state,
            port=port,
            autoscaling=config,
            dashboard_port=settings.dashboard_port or free_port(),
            places=0 if settings.nodes else self._places,
            spares=settings.spares,
            env=env,
            on_retry=lambda said: self._log.write(
                StageEvent(stage=Stage.RAY, status=Status.STARTED, detail=said)
            ),
        )

    def _ray_nodes(self) -> list[RayNode]:
        count = 0 if self._settings.node_idle_s else self._settings.nodes
        places = self._places_of_a_node
        return [
            RayNode(
                self._state,
                f"node-{number}",
                address=self._ray.address,
                resources={"swarm": places},
                env=self._hub_env,
                drain_s=self._settings.preempt_s + NODE_GOES_S,
            )
            for number in range(1, count + 1)
        ]

    @property
    def _places_of_a_node(self) -> int:
        return -(-self._places // self._settings.nodes) if self._settings.nodes else 0

    @property
    def _places(self) -> int:
        return self._settings.max_workers + SPARE_PLACES

    def _record(self) -> None:
        supervisor = ProcessId.of(os.getpid())
        if supervisor is None:
            raise BackendError("/proc does not show this process: a local fleet needs Linux's /proc")
        self._state.write(
            Fleet(
                id=self._state.id,
                version=__version__,
                ready=not self._missing,
                started_at=self._started_at,
                processes={"supervisor": supervisor, **self._children},
                url=self._url,
                dashboard_url=self._ray.dashboard_url,
                ray_address=self._ray.address,
                redis_url=self._redis_url,
                redis_users=self._settings.redis_users,
                model_url=self._model.url if self._model else "",
                agents=environment.places(environment.agents(self._settings.agents)),
                api_key_file=self._state.api_key,
                ray_token_file=self._state.ray_token,
                directory=self._state.path,
            )
        )


def _read(key: Path) -> str:
    return key.read_text(encoding="utf-8").strip()


def check_ports(settings: Settings) -> None:
    """Refuse before anything starts when a port that was asked for is taken.

    Raises:
        ConfigurationError: names the port, its holder and the variable.
    """
    require_free(settings.http_host, settings.http_port, "CHIMERA_HTTP_PORT")
    for port, variable in (
        (settings.ray_port, "CHIMERA_RAY_PORT"),
        (settings.dashboard_port, "CHIMERA_DASHBOARD_PORT"),
    ):
        if port:
            require_free(LOOPBACK, port, variable)
