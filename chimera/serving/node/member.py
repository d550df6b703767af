"""A node that joins a head: for one worker, or for the judge.

It waits until the head answers, stays, and joins anew when the head was replaced: Ray ends what belongs to an
older one. Told to end, it drains first: its worker takes no more work and hands back what it does not finish.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from http import HTTPStatus

from chimera.errors import BackendError, ConfigurationError
from chimera.serving.local import child, environment
from chimera.serving.local.ray_head import answers
from chimera.serving.local.ray_node import RayNode
from chimera.serving.local.stages import Stage, StageEvent, StageLog, Status
from chimera.serving.local.supervisor import NODE_GOES_S
from chimera.serving.node.login import JUDGES, without_operator
from chimera.serving.node.place import Place
from chimera.serving.node.reach import Patience, reason, seen_from, until_asked
from chimera.settings import Settings

SWARM = "swarm"
"""A place for a worker (`chimera.serving.backend.PLACE`, which imports Ray)."""
JUDGE = "judge"
"""What a node for the judge offers, unless CHIMERA_JUDGE_RESOURCE has another name for it."""
ATTEMPTS = 5
"""So often in a row it may fail to join a head that answers."""
HEALTH, LOOK_S = "/api/local_raylet_healthz", 0.5
SLACK_S = 5.0
"""Ray takes so long at most to end what is left after the drain."""


class Duty(StrEnum):
    """What a node is for."""

    WORKER = "worker"
    JUDGE = "judge"


class Member:
    """One node, from its start to its end.

    Args:
        settings: the environment, validated.
        place: the node's own.
    Raises:
        ConfigurationError: no head is named; or, for a judge, no Redis.
    """

    def __init__(self, duty: Duty, settings: Settings, place: Place) -> None:
        if not settings.node_address:
            raise ConfigurationError(
                f"`chimera node {duty}` joins a head: set CHIMERA_NODE_ADDRESS to where that is, host:port, "
                "for example chimera-core:6380"
            )
        self._duty, self._place = duty, place
        self._resources = {SWARM if duty is Duty.WORKER else settings.judge_resource or JUDGE: 1}
        # A worker is given what it needs by the hub, its tenant's login too: its node has none.
        self._settings, login = without_operator(settings) if duty is Duty.JUDGE else (settings, frozenset())
        self._secrets = login | JUDGES if duty is Duty.JUDGE else frozenset()
        self._drain_s = settings.preempt_s + NODE_GOES_S
        self._log = StageLog(place.state.progress)
        self._node: RayNode | None = None

    async def run(self) -> None:
        """Join, and stay until SIGTERM; then drain.

        Raises:
            BackendError: the head answers, and it cannot be joined.
        """
        try:
            await until_asked(self._stay())
        finally:
            if self._node is not None:
                await self._node.stop(grace_s=self._drain_s + SLACK_S)
            await asyncio.to_thread(self._place.sweep)
            self._say(Status.STOPPED, "it has left")
            self._place.state.forget()

    async def _stay(self) -> None:
        failures = 0
        while True:
            node = self._node = self.ray_node(await self._reach())
            process = node.start()
            ended = asyncio.ensure_future(child.exited(process))
            joined = asyncio.ensure_future(self._joined(node))
            try:
                await asyncio.wait({ended, joined}, return_when=asyncio.FIRST_COMPLETED)
                if joined.done():
                    failures = 0
                    self._say(Status.READY, f"joined {self._settings.node_address} for a {self._duty}")
                else:
                    failures += 1
                code = await ended
            finally:
                ended.cancel()
                joined.cancel()
            await asyncio.to_thread(self._place.sweep)
            if not failures:
                self._say(
                    Status.STOPPED, f"Ray has ended it with code {code}, as it does when the head is another"
                )
                continue
            said = f"it ended with code {code} at its start; {child.last_lines(node.log)}"
            self._say(Status.FAILED, said)
            if failures == ATTEMPTS:
                raise BackendError(
                    f"the head at {self._settings.node_address} answers, and could not be joined {ATTEMPTS} "
                    f"times: is CHIMERA_NODE_TOKEN the head's? {said}"
                )

    async def _reach(self) -> str:
        """Wait until the head answers; the own address, as the head sees it."""
        host, _, port = self._settings.node_address.rpartition(":")
        waiting = Patience(lambda why: self._say(Status.STARTED, why))
        while True:
            try:
                own = await seen_from(host.strip("[]"), int(port))
            except OSError as exc:
                await waiting.wait(f"waits for the head at {self._settings.node_address}: {reason(exc)}")
            else:
                return self._settings.node_ip or own

    async def _joined(self, node: RayNode) -> None:
        while not await asyncio.to_thread(answers, node.agent_url, HEALTH, HTTPStatus.OK):  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(LOOK_S)

    def ray_node(self, host: str) -> RayNode:
        """The node, as it is at this address of its own; nothing is started."""
        settings, state = self._settings, self._place.state
        return RayNode(
            state,
            str(self._duty),
            address=settings.node_address,
            resources=self._resources,
            env=environment.of_node(settings, state, host=host, secrets=self._secrets),
            drain_s=self._drain_s,
            host=host,
            metrics_port=settings.node_metrics_port,
            agent_port=settings.node_agent_port,
            own_files=True,
        )

    def _say(self, status: Status, detail: str) -> None:
        self._log.write(StageEvent(stage=Stage.NODE, status=status, detail=detail))
