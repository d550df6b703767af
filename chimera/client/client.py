"""`Client`: typed, async, without Ray, Redis or a model.

    async with Client() as client:
        mission = await client.submit({"goal": "…", "inputs": ["…"], "budget_usd": "0.10"})
        async for mission in client.watch(mission.mission_id):
            print(mission.status, mission.accepted)
        async for result in client.results(mission.mission_id):
            print(result.result)

Every call is safe to repeat: reads change nothing, and each write carries an operation id that
the hub remembers. So a call that met a broken connection or a 503 is tried again a bounded number
of times before its error is raised, and a stream that dropped goes on where it stopped. One that was
refused with 429 is sent again after the time the hub names, if that is short.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

import httpx
from pydantic import ValidationError

from chimera import settings
from chimera.client.connection import Connection, parse, part
from chimera.client.lines import Inputs, again
from chimera.client.lines import body as as_lines
from chimera.client.listing import Listing
from chimera.core.action import ActionStatus
from chimera.core.chainviews import ChainView, Mark
from chimera.core.estimate import Sizes
from chimera.core.event import Event
from chimera.core.forecast import EstimateView
from chimera.core.mission import MissionBase, MissionStatus
from chimera.core.report import Acknowledged, FlagView, ReportView
from chimera.core.task import TaskStatus
from chimera.core.views import (
    ActionView,
    AgentView,
    FleetView,
    GovernorView,
    MissionView,
    Page,
    ReadyView,
    RedriveView,
    ResultView,
    RetryView,
    ReviewView,
    SpendView,
    TaskView,
    VersionView,
    WhyView,
)

FEW = 1_000
"""A mission of more inputs is sent as lines."""


class Client:
    """A tenant's view of the hub. Use it as an async context manager, or call `aclose`.

    Args:
        url: the hub's address; by default CHIMERA_URL, else loopback at CHIMERA_HTTP_PORT.
        api_key: the tenant's key; by default CHIMERA_API_KEY, or the file CHIMERA_API_KEY_FILE.
        timeout_s: of one try of one call; reading a stream has its own.
        retries: further tries after a broken connection or a 503.
        transport: another httpx transport, for tests and proxies.
    Raises:
        ConfigurationError: the environment is wrong.

    Every method raises `FleetUnavailable` when no hub answers, `Unauthorized` for a wrong key,
    `StoreError` while the hub's store is away, and the errors it names. Missions and reviews are listed
    though a record of them is damaged: `damaged` of the `Listing` says what is missing.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if url is None or api_key is None:
            environment = settings.load()
            url = url or environment.address
            if api_key is None and environment.api_key is not None:
                api_key = environment.api_key.get_secret_value()
        self._hub = Connection(url, api_key, timeout_s=timeout_s, retries=retries, transport=transport)

    @property
    def url(self) -> str:
        """The hub's address."""
        return self._hub.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections; twice is fine."""
        await self._hub.aclose()

    # Missions

    async def submit(
        self,
        spec: MissionBase | Mapping[str, Any],
        *,
        inputs: Inputs | None = None,
        idempotency_key: str | None = None,
        sent: Callable[[int], None] | None = None,
        traceparent: str = "",
    ) -> MissionView:
        """Submit a mission. When this returns, it is stored and will be done.

        Args:
            spec: the mission; with its inputs, or without.
            inputs: what it is to work on, if `spec` does not have them; sent as they come, so that they
                need not fit into memory. What can be gone through only once, such as a generator, is sent
                once: a broken connection is then an error at once.
            idempotency_key: the same key with the same mission gives the mission that it made
                before (24 h). Without one, a fresh key makes this call's own retries safe.
            sent: told how many inputs are on their way, where there are many.
            traceparent: the span that submits it, as W3C Trace Context has it: the mission's log lines and
                model calls are then found in that trace (`MissionView.trace_id`).
        Raises:
            InvalidRequest: with every problem and its place; nothing was submitted.
            PayloadTooLarge: an input or the whole is over a limit.
            QueueFull, RateLimited: there is no room now; `retry_after_s` says when.
            AlreadyExists: the key came before with another mission.
        """
        if inputs is None:
            inputs = getattr(spec, "inputs", None) if isinstance(spec, MissionBase) else spec.get("inputs")
        if inputs is None or (isinstance(inputs, list | tuple) and len(inputs) <= FEW):
            body = _plain(spec) if inputs is None else {**_plain(spec), "inputs": inputs}
            return await self._hub.write(
                MissionView, "POST", "/v1/missions", body, idempotency_key, traceparent=traceparent
            )
        return await self._hub.write_lines(
            MissionView,
            "/v1/missions",
            as_lines(_plain(spec, exclude={"inputs"}), inputs, sent),
            idempotency_key,
            again=again(inputs),
            traceparent=traceparent,
        )

    async def mission(self, mission_id: str) -> MissionView:
        """One mission as it stands now. Raises NotFound."""
        return await self._hub.read(MissionView, f"/v1/missions/{part(mission_id)}")

    async def missions(self, *, archived: bool = False, limit: int = 50) -> Listing[MissionView]:
        """The newest missions, newest first: those in Redis, or those that are archived."""
        params = {"archived": "true"} if archived else {}
        return await self._hub.listing(MissionView, "/v1/missions", params, limit)

    async def watch(
        self, mission_id: str, *, through_review: bool = False
    ) -> AsyncGenerator[MissionView, None]:
        """The mission now, and again whenever something changed, until it is final.

        Args:
            through_review: go on while it waits for a human; otherwise that ends the watch too.
        Raises:
            NotFound: there is no such mission.
        """
        stream = self._hub.events(f"/v1/missions/{part(mission_id)}/watch")
        async with aclosing(stream):
            async for event in stream:
                mission = parse(MissionView, event.data)
                yield mission
                waits = mission.status is MissionStatus.WAITING_REVIEW and not through_review
                if mission.final or waits:
                    return

    async def wait(self, mission_id: str) -> MissionView:
        """The mission once it is final or waits for a human. Raises NotFound."""
        async with aclosing(self.watch(mission_id)) as stream:
            async for mission in stream:
                if mission.final or mission.status is MissionStatus.WAITING_REVIEW:
                    return mission
        raise self._hub.gone("the watch ended before the mission did")

    async def events(
        self, mission_id: str, *, after: str | None = None, follow: bool = True
    ) -> AsyncGenerator[tuple[str, Event], None]:
        """The flight recorder's entries of a mission, oldest first, each with its id.

        Args:
            after: go on after this id.
            follow: wait for new ones until the mission and all its tasks are final; otherwise
                end with the newest there is.
        Raises:
            NotFound: there is no such mission.
        """
        path = f"/v1/missions/{part(mission_id)}/events"
        stream = self._hub.events(path, {"follow": str(follow).lower()}, after or "")
        async with aclosing(stream):
            async for event in stream:
                yield event.id, parse(Event, event.data)

    async def recorder(
        self,
        *,
        tenant: str = "",
        kinds: Sequence[str] = (),
        mission_id: str = "",
        task_id: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        live: bool = False,
        follow: bool = False,
    ) -> AsyncGenerator[tuple[str, Event], None]:
        """A tenant's flight recorder, oldest first, each event with its id.

        Args:
            tenant: whose, for a key of the fleet.
            kinds: how the kinds begin that are wanted; all by default.
            mission_id, task_id: of this alone.
            since, until: from an aware instant on, and before one.
            after: go on after this id.
            live: only what happens from now on.
            follow: wait for new ones, for ever; otherwise end with the newest.
        Raises:
            InvalidRequest: a key of the fleet named no tenant.
        """
        given = {
            "tenant": tenant,
            "kind": ",".join(kinds),
            "mission": mission_id,
            "task": task_id,
            "since": since.isoformat() if since else "",
            "until": until.isoformat() if until else "",
            "live": "true" if live else "",
        }
        params = {name: value for name, value in given.items() if value}
        stream = self._hub.events("/v1/events", params | {"follow": str(follow).lower()}, after or "")
        async with aclosing(stream):
            async for event in stream:
                yield event.id, parse(Event, event.data)

    async def verify(self, *, tenant: str = "", since: Mark | None = None) -> ChainView:
        """Follow the hash chain of the tenant's recorder; from an anchor too. It may take long.

        Raises:
            InvalidRequest: a key of the fleet named no tenant.
            RateLimited: another is under way. StoreTimeout: it took too long.
        """
        given = {"tenant": tenant, **({"position": since.position, "hash": since.hash} if since else {})}
        params = {name: value for name, value in given.items() if value}
        return await self._hub.read(ChainView, "/v1/recorder/verify", params)

    async def results(self, mission_id: str, *, after: str = "") -> AsyncGenerator[ResultView, None]:
        """What is accepted so far, in the order planned; one is in memory at a time.

        A stream that breaks off is taken up behind the last result that came.

        Args:
            after: go on behind this: `next` of a result.
        Raises:
            NotFound: there is no such mission.
        """
        stream = self._hub.lines(f"/v1/missions/{part(mission_id)}/results", ResultView, after)
        async with aclosing(stream):
            async for result in stream:
                yield result

    async def cancel(self, mission_id: str, reason: str = "") -> MissionView:
        """End a mission; what is accepted stays. Raises NotFound; InvalidTransition when it is over."""
        path = f"/v1/missions/{part(mission_id)}/cancel"
        return await self._hub.write(MissionView, "POST", path, {"reason": reason})

    async def pause(self, mission_id: str, reason: str = "") -> MissionView:
        """Hold a mission: nothing more is claimed or judged; what is under way is kept.

        Raises NotFound; InvalidTransition when it is over."""
        path = f"/v1/missions/{part(mission_id)}/pause"
        return await self._hub.write(MissionView, "POST", path, {"reason": reason})

    async def resume(self, mission_id: str, *, budget_usd: Decimal | str | None = None) -> MissionView:
        """Let a paused mission go on; or one that its budget ended, under a larger one.

        Raises NotFound; InvalidTransition when there is nothing to resume, or the budget must grow."""
        path = f"/v1/missions/{part(mission_id)}/resume"
        body = {} if budget_usd is None else {"budget_usd": str(budget_usd)}
        return await self._hub.write(MissionView, "POST", path, body)

    async def redrive(self, mission_id: str, task_ids: Sequence[str]) -> RedriveView:
        """Give FAILED tasks, at most 500, a fresh set of attempts; others are left as they are.

        Raises NotFound; InvalidTransition when the mission was cancelled, or ended by budget or deadline.
        """
        path = f"/v1/missions/{part(mission_id)}/redrive"
        return await self._hub.write(RedriveView, "POST", path, {"tasks": list(task_ids)})

    async def edit(
        self, mission_id: str, *, goal: str | None = None, context: Mapping[str, Any] | None = None
    ) -> MissionView:
        """Change goal or context; tasks under way are done again, accepted results stand.

        Raises NotFound; Conflict when it is over; InvalidRequest when nothing is to change."""
        body = {"goal": goal, "context": None if context is None else dict(context)}
        given = {name: value for name, value in body.items() if value is not None}
        return await self._hub.write(MissionView, "PATCH", f"/v1/missions/{part(mission_id)}", given)

    # Tasks and reviews

    async def tasks(
        self, mission_id: str, *, status: TaskStatus | None = None, limit: int = 100
    ) -> Listing[TaskView]:
        """Tasks of a mission in the order planned, of one status if named. Raises NotFound."""
        params = {} if status is None else {"status": str(status)}
        path = f"/v1/missions/{part(mission_id)}/tasks"
        return await self._hub.listing(TaskView, path, params, limit)

    async def task(self, task_id: str) -> TaskView:
        """One task. Raises NotFound."""
        return await self._hub.read(TaskView, f"/v1/tasks/{part(task_id)}")

    async def why(self, task_id: str) -> WhyView:
        """What holds a task: its place in line, the cause, and what to do. Raises NotFound."""
        return await self._hub.read(WhyView, f"/v1/tasks/{part(task_id)}/why")

    async def reviews(self, *, limit: int = 100) -> Listing[ReviewView]:
        """What waits for a human, longest waiting first."""
        return await self._hub.listing(ReviewView, "/v1/reviews", {}, limit)

    async def review(self, task_id: str) -> ReviewView:
        """One task that waits for a human. Raises NotFound, Conflict when it does not wait (any more)."""
        return await self._hub.read(ReviewView, f"/v1/reviews/{part(task_id)}")

    async def approve(self, task_id: str, comment: str = "") -> TaskView:
        """Accept the result. Raises NotFound; Conflict when it does not wait; StaleVerdict when the
        mission changed meanwhile, so that it is done again."""
        return await self._hub.write(
            TaskView, "POST", f"/v1/reviews/{part(task_id)}/approve", {"comment": comment}
        )

    async def reject(self, task_id: str, comment: str = "") -> TaskView:
        """Reject the result; the comment is feedback to the next attempt. Raises as `approve`."""
        return await self._hub.write(
            TaskView, "POST", f"/v1/reviews/{part(task_id)}/reject", {"comment": comment}
        )

    # Actions

    async def actions(
        self, mission_id: str, *, status: ActionStatus | None = None, limit: int = 100
    ) -> Listing[ActionView]:
        """Actions of a mission's accepted results, in the order accepted, of one status if named.

        Raises NotFound."""
        params = {} if status is None else {"status": str(status)}
        path = f"/v1/missions/{part(mission_id)}/actions"
        return await self._hub.listing(ActionView, path, params, limit)

    async def retry_actions(self, mission_id: str, action_ids: Sequence[str]) -> RetryView:
        """Give FAILED actions, at most 500, a fresh set of tries; others are left as they are.

        Raises NotFound."""
        path = f"/v1/missions/{part(mission_id)}/actions/retry"
        return await self._hub.write(RetryView, "POST", path, {"actions": list(action_ids)})

    # The hub

    async def agents(self) -> Listing[AgentView]:
        """Registered agents, by name."""
        return await self._hub.listing(AgentView, "/v1/agents", {}, None)

    async def spend(self) -> SpendView:
        """The tenant's limits and what is spent and held."""
        return await self._hub.read(SpendView, "/v1/spend")

    async def governor(self) -> GovernorView:
        """The tenant's brake: where it stands, why, and what it is decided on."""
        return await self._hub.read(GovernorView, "/v1/governor")

    async def freeze(self, reason: str) -> GovernorView:
        """No paid call of the tenant's starts any more, until it is thawed. Raises InvalidRequest."""
        return await self._hub.write(GovernorView, "POST", "/v1/governor/freeze", {"reason": reason})

    async def thaw(self, reason: str) -> GovernorView:
        """Paid calls start again; what was spent before is not held against the tenant.

        Raises InvalidRequest; Conflict when the canary froze it."""
        return await self._hub.write(GovernorView, "POST", "/v1/governor/thaw", {"reason": reason})

    async def override(self, minutes: float, reason: str) -> GovernorView:
        """The brake is open, and stays so whatever is spent, at most a day; the limits hold.

        Raises InvalidRequest; Conflict when the canary froze it."""
        body = {"minutes": minutes, "reason": reason}
        return await self._hub.write(GovernorView, "POST", "/v1/governor/override", body)

    async def spend_report(
        self,
        *,
        by: Sequence[str] = ("model",),
        since: datetime | None = None,
        until: datetime | None = None,
        mission_id: str = "",
    ) -> ReportView:
        """What money went to, how fast it goes, every limit and how it stands.

        Args:
            by: what rows are told apart by: mission, agent, model, day.
            since, until: aware instants; 30 days before, and now, unless given.
        Raises:
            InvalidRequest: the question cannot be answered. NotFound: there is no such mission.
        """
        asked = {
            "by": ",".join(by),
            "since": since.isoformat() if since else "",
            "until": until.isoformat() if until else "",
            "mission": mission_id,
        }
        return await self._hub.read(
            ReportView, "/v1/spend/report", {name: value for name, value in asked.items() if value}
        )

    async def flags(self) -> list[FlagView]:
        """What limits refused and nobody has acknowledged, the last refused first."""
        page = await self._hub.read(Page[FlagView], "/v1/spend/flags")
        return list(page.items)

    async def acknowledge(
        self,
        levels: Sequence[str] = (),
        *,
        every: bool = False,
        comment: str = "",
        idempotency_key: str | None = None,
    ) -> int:
        """Take flags down; one that is refused again comes back. Returns how many went.

        Args:
            levels: as flags name them; ``mission MISSION`` for one mission's.
            every: all there are.
        """
        body = {"levels": list(levels), "all": every, "comment": comment}
        said = await self._hub.write(Acknowledged, "POST", "/v1/spend/flags/ack", body, idempotency_key)
        return said.acknowledged

    async def estimate(
        self,
        spec: MissionBase | Mapping[str, Any],
        *,
        inputs: Sequence[Any] | None = None,
        sizes: Sizes | None = None,
        every: str | None = None,
    ) -> EstimateView:
        """What a mission will cost, before anything runs. Nothing is stored.

        Args:
            inputs: if `spec` does not have them; `sizes` of them suffices where they are many.
            every: hour, day, week, month or year: a year's cost is told too.
        Raises:
            InvalidRequest: the mission could not be submitted.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, MissionBase) else dict(spec)
        if inputs is not None:
            body["inputs"] = list(inputs)
        if sizes is not None:
            body["sizes"] = asdict(sizes)
        return await self._hub.write(EstimateView, "POST", "/v1/missions/estimate", {**body, "every": every})

    async def fleet(self) -> FleetView:
        """The tenant's workers, and the hub's health."""
        return await self._hub.read(FleetView, "/v1/fleet")

    async def version(self) -> VersionView:
        """What answers there."""
        return await self._hub.read(VersionView, "/version")

    async def ready(self) -> ReadyView:
        """Whether the hub can take work and do it; a hub that is not ready is an answer, no error."""
        with self._hub.reachable():
            response = await self._hub.http.get("/readyz")
        try:
            return ReadyView.model_validate_json(response.content)
        except ValidationError:
            await self._hub.check(response)
            raise


def _plain(spec: MissionBase | Mapping[str, Any], exclude: set[str] | None = None) -> dict[str, Any]:
    if isinstance(spec, MissionBase):
        return spec.model_dump(mode="json", by_alias=True, exclude=exclude)
    return {name: value for name, value in spec.items() if name not in (exclude or ())}
