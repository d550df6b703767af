"""The Python client: typed, async, without Ray, Redis or a model.

    async with Client() as client:
        mission = await client.submit({"goal": "…", "inputs": ["…"], "budget_usd": "0.10"})
        async for mission in client.watch(mission.mission_id):
            print(mission.status, mission.accepted)
        async for result in client.results(mission.mission_id):
            print(result.result)

Every call is safe to repeat: reads change nothing, and each write carries an operation id that
the hub remembers. So a call that met a broken connection or a 503 is tried again a bounded number
of times before its error is raised, and a stream that dropped goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError
from pydantic import BaseModel, ValidationError

from chimera import errors, settings
from chimera.core.event import Event
from chimera.core.mission import MissionSpec, MissionStatus
from chimera.core.task import TaskStatus
from chimera.core.views import (
    AgentView,
    FleetView,
    MissionView,
    Page,
    Problem,
    ReadyView,
    ResultView,
    ReviewView,
    SpendView,
    TaskView,
    VersionView,
    problem_fields,
    problem_kind,
    problem_member,
)
from chimera.errors import (
    BackendError,
    ChimeraError,
    Conflict,
    FleetUnavailable,
    Forbidden,
    InvalidRequest,
    NotFound,
    RefusalKind,
    Rejected,
    StoreTimeout,
    StoreUnavailable,
    Unauthorized,
)
from chimera.version import __version__

V = TypeVar("V", bound=BaseModel)

SILENCE_S = 45.0
"""A stream that says nothing for this long, three heartbeats, is broken."""
PATIENCE_S = 60.0
"""A stream that was once connected is taken up again for this long."""

AWAY = (FleetUnavailable, StoreUnavailable, StoreTimeout)
"""What may be over in a moment: worth another try."""


class Client:
    """A tenant's view of the hub. Use it as an async context manager, or call `aclose`.

    Args:
        url: the hub's address; by default CHIMERA_URL.
        api_key: the tenant's key; by default CHIMERA_API_KEY, or the file CHIMERA_API_KEY_FILE.
        timeout_s: of one try of one call; reading a stream has its own.
        retries: further tries after a broken connection or a 503.
        transport: another httpx transport, for tests and proxies.
    Raises:
        ConfigurationError: the environment is wrong.

    Every method raises `FleetUnavailable` when no hub answers, `Unauthorized` for a wrong key,
    `StoreError` while the hub's store is away, and the errors it names.
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
            url = url or environment.url
            if api_key is None and environment.api_key is not None:
                api_key = environment.api_key.get_secret_value()
        self.url = url.rstrip("/")
        self._retries = retries
        headers = {"User-Agent": f"chimera/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        try:
            self._http = httpx.AsyncClient(
                base_url=self.url,
                headers=headers,
                timeout=httpx.Timeout(timeout_s, connect=min(5.0, timeout_s)),
                transport=transport,
                # Proxies and netrc of the environment are no settings of ours.
                trust_env=False,
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as exc:
            raise errors.ConfigurationError(
                f"the hub's address or key cannot be used ({exc}): check CHIMERA_URL and CHIMERA_API_KEY"
            ) from exc

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections; twice is fine."""
        await self._http.aclose()

    # Missions

    async def submit(
        self, spec: MissionSpec | Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> MissionView:
        """Submit a mission. When this returns, it is stored and will be done.

        Args:
            idempotency_key: the same key with the same mission gives the mission that it made
                before (24 h). Without one, a fresh key makes this call's own retries safe.
        Raises:
            InvalidRequest: with every problem and its place; nothing was submitted.
            PayloadTooLarge: an input or the whole is over a limit.
            QueueFull, RateLimited: there is no room now; `retry_after_s` says when.
            AlreadyExists: the key came before with another mission.
        """
        if isinstance(spec, MissionSpec):
            body: Any = spec.model_dump(mode="json", by_alias=True)
        else:
            body = dict(spec)
        return await self._write(MissionView, "POST", "/v1/missions", body, idempotency_key)

    async def mission(self, mission_id: str) -> MissionView:
        """One mission as it stands now. Raises NotFound."""
        return await self._read(MissionView, f"/v1/missions/{_part(mission_id)}")

    async def missions(self, *, limit: int = 50) -> list[MissionView]:
        """The newest missions, newest first."""
        return [mission async for mission in self._pages(MissionView, "/v1/missions", {}, limit)]

    async def watch(
        self, mission_id: str, *, through_review: bool = False
    ) -> AsyncGenerator[MissionView, None]:
        """The mission now, and again whenever something changed, until it is final.

        Args:
            through_review: go on while it waits for a human; otherwise that ends the watch too.
        Raises:
            NotFound: there is no such mission.
        """
        stream = self._events(f"/v1/missions/{_part(mission_id)}/watch")
        async with aclosing(stream):
            async for event in stream:
                mission = _parse(MissionView, event.data)
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
        raise self._gone("the watch ended before the mission did")

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
        path = f"/v1/missions/{_part(mission_id)}/events"
        stream = self._events(path, {"follow": str(follow).lower()}, after or "")
        async with aclosing(stream):
            async for event in stream:
                yield event.id, _parse(Event, event.data)

    async def results(self, mission_id: str) -> AsyncGenerator[ResultView, None]:
        """What is accepted so far, in the order planned. Raises NotFound."""
        with self._unavailable():
            async with self._http.stream("GET", f"/v1/missions/{_part(mission_id)}/results") as response:
                await self._check(response)
                async for line in response.aiter_lines():
                    if line:
                        yield _parse(ResultView, line)

    async def cancel(self, mission_id: str, reason: str = "") -> MissionView:
        """End a mission; what is accepted stays. Raises NotFound; InvalidTransition when it is over."""
        path = f"/v1/missions/{_part(mission_id)}/cancel"
        return await self._write(MissionView, "POST", path, {"reason": reason})

    async def edit(
        self, mission_id: str, *, goal: str | None = None, context: Mapping[str, Any] | None = None
    ) -> MissionView:
        """Change goal or context; tasks under way are done again.

        Raises NotFound; Conflict when it is over; InvalidRequest when nothing is to change."""
        body = {"goal": goal, "context": None if context is None else dict(context)}
        given = {name: value for name, value in body.items() if value is not None}
        return await self._write(MissionView, "PATCH", f"/v1/missions/{_part(mission_id)}", given)

    # Tasks and reviews

    async def tasks(
        self, mission_id: str, *, status: TaskStatus | None = None, limit: int = 100
    ) -> list[TaskView]:
        """Tasks of a mission in the order planned, of one status if named. Raises NotFound."""
        params = {} if status is None else {"status": str(status)}
        path = f"/v1/missions/{_part(mission_id)}/tasks"
        return [task async for task in self._pages(TaskView, path, params, limit)]

    async def task(self, task_id: str) -> TaskView:
        """One task. Raises NotFound."""
        return await self._read(TaskView, f"/v1/tasks/{_part(task_id)}")

    async def reviews(self, *, limit: int = 100) -> list[ReviewView]:
        """What waits for a human, longest waiting first."""
        return [review async for review in self._pages(ReviewView, "/v1/reviews", {}, limit)]

    async def review(self, task_id: str) -> ReviewView:
        """One task that waits for a human. Raises NotFound, Conflict when it does not wait (any more)."""
        return await self._read(ReviewView, f"/v1/reviews/{_part(task_id)}")

    async def approve(self, task_id: str, comment: str = "") -> TaskView:
        """Accept the result. Raises NotFound; Conflict when it does not wait; StaleVerdict when the
        mission changed meanwhile, so that it is done again."""
        return await self._write(
            TaskView, "POST", f"/v1/reviews/{_part(task_id)}/approve", {"comment": comment}
        )

    async def reject(self, task_id: str, comment: str = "") -> TaskView:
        """Reject the result; the comment is feedback to the next attempt. Raises as `approve`."""
        return await self._write(
            TaskView, "POST", f"/v1/reviews/{_part(task_id)}/reject", {"comment": comment}
        )

    # The hub

    async def agents(self) -> list[AgentView]:
        """Registered agents, by name."""
        return [agent async for agent in self._pages(AgentView, "/v1/agents", {}, None)]

    async def spend(self) -> SpendView:
        """The tenant's limits and what is spent and held."""
        return await self._read(SpendView, "/v1/spend")

    async def fleet(self) -> FleetView:
        """The tenant's workers, and the hub's health."""
        return await self._read(FleetView, "/v1/fleet")

    async def version(self) -> VersionView:
        """What answers there."""
        return await self._read(VersionView, "/version")

    async def ready(self) -> ReadyView:
        """Whether the hub can take work and do it; a hub that is not ready is an answer, no error."""
        with self._unavailable():
            response = await self._http.get("/readyz")
        try:
            return ReadyView.model_validate_json(response.content)
        except ValidationError:
            await self._check(response)
            raise

    # How a call is made

    async def _read(self, view: type[V], path: str, params: Mapping[str, str] | None = None) -> V:
        return _parse(view, await self._call("GET", path, params=params))

    async def _write(
        self, view: type[V], method: str, path: str, body: Any, operation: str | None = None
    ) -> V:
        headers = {"Idempotency-Key": operation or uuid.uuid4().hex}
        return _parse(view, await self._call(method, path, json=body, headers=headers))

    async def _pages(
        self, item: type[V], path: str, params: Mapping[str, str], most: int | None
    ) -> AsyncGenerator[V, None]:
        given, asked = 0, dict(params)
        while most is None or given < most:
            if most is not None:
                asked["limit"] = str(min(100, most - given))
            # `item` is a class known only when it runs: pydantic builds the page's model from it.
            page = await self._read(Page[item], path, asked)  # type: ignore[valid-type]
            for one in page.items:
                yield one
                given += 1
            if page.next is None:
                return
            asked["after"] = page.next

    async def _call(self, method: str, path: str, **request: Any) -> bytes:
        """One call, tried again while the connection breaks or the hub answers 503."""
        tries = 0
        while True:
            tries += 1
            try:
                with self._unavailable():
                    response = await self._http.request(method, path, **request)
                await self._check(response)
            except AWAY:
                if tries > self._retries:
                    raise
            else:
                return response.content
            await asyncio.sleep(_backoff_s(tries))

    async def _events(
        self, path: str, params: Mapping[str, str] | None = None, last_id: str = ""
    ) -> AsyncGenerator[ServerSentEvent, None]:
        """A stream's events, taken up again after the last id when the connection drops.

        The hub says `end` when there is no more; a stream that stops without it was cut.
        """
        connected, tries, lost_at = False, 0, 0.0
        while True:
            failure: ChimeraError = self._gone("the stream was cut")
            try:
                with self._unavailable():
                    async with self._http.stream(
                        "GET",
                        path,
                        params=params,
                        headers={
                            "Accept": "text/event-stream",
                            **({"Last-Event-ID": last_id} if last_id else {}),
                        },
                        timeout=httpx.Timeout(10.0, read=SILENCE_S),
                    ) as response:
                        await self._check(response)
                        connected = True
                        async with aclosing(EventSource(response).aiter_sse()) as stream:
                            async for event in stream:
                                if event.event == "end":
                                    return
                                tries, last_id = 0, event.id or last_id
                                if event.data:
                                    yield event
            except AWAY as exc:
                failure = exc
            tries += 1
            lost_at = time.monotonic() if tries == 1 else lost_at
            out_of_patience = time.monotonic() - lost_at > PATIENCE_S
            if out_of_patience if connected else tries > self._retries:
                raise failure
            await asyncio.sleep(_backoff_s(tries))

    async def _check(self, response: httpx.Response) -> None:
        """Raise the error that a response tells of, if it does."""
        if response.is_success:
            return
        await response.aread()
        if response.headers.get("content-type", "").startswith("application/problem+json"):
            raise error_of(_parse(Problem, response.content))
        raise self._gone(f"HTTP {response.status_code} came from something else than Chimera's API")

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as exc:
            raise self._gone("it did not answer in time") from exc
        except (httpx.TransportError, SSEError) as exc:
            raise self._gone(str(exc) or type(exc).__name__) from exc

    def _gone(self, why: str) -> FleetUnavailable:
        return FleetUnavailable(
            f"no hub answers at {self.url} ({why}): start a local fleet with `chimera up`, "
            "or set CHIMERA_URL to the hub's address"
        )


def error_of(problem: Problem) -> ChimeraError:
    """The error a problem document was made from, its fields rebuilt."""
    known = _KINDS.get(problem.kind)
    if known is None:
        # A newer hub's kind: the status says which family it belongs to.
        family = _FAMILIES.get(problem.status, BackendError if problem.status >= 500 else Rejected)
        return family(problem.detail or problem.title)
    names = problem_fields(known)
    sent = problem.model_extra or {}
    if not names:
        return known(problem.detail or problem.title)
    if any(problem_member(name) not in sent for name in names):
        return _bare(known)(problem.detail or problem.title)
    return known(*(_field(name, sent[problem_member(name)]) for name in names))


def _bare(known: type[ChimeraError]) -> type[ChimeraError]:
    """The nearest ancestor that is one sentence: for a document that lost the error's fields."""
    return next(cls for cls in known.__mro__ if issubclass(cls, ChimeraError) and not problem_fields(cls))


def _field(name: str, value: Any) -> Any:
    if name == "kind":
        return RefusalKind(value)
    return tuple(value) if isinstance(value, list) else value


_KINDS: dict[str, type[ChimeraError]] = {
    problem_kind(error): error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, ChimeraError)
}
_FAMILIES: dict[int, type[ChimeraError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    503: StoreUnavailable,
}


def _parse(view: type[V], body: bytes | str) -> V:
    try:
        return view.model_validate_json(body)
    except ValidationError as exc:
        raise BackendError(
            f"the hub's answer cannot be read as {view.__name__}: it speaks another version than this "
            f"client ({__version__}); compare `chimera --version` with the hub's /version"
        ) from exc


def _part(identity: str) -> str:
    """An id as one part of a path."""
    if not identity:
        raise InvalidRequest("an id is missing: give the mission's or the task's id")
    return quote(identity, safe="")


def _backoff_s(attempt: int) -> float:
    """Seconds until the next try: doubling from 0.2 s, at most 5 s, spread by chance."""
    return float(min(5.0, 0.2 * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))  # nosec B311
