"""What an agent is: one function of a task and a context.

::

    from chimera import Context, Task, agent

    @agent("shout")
    async def shout(task: Task, ctx: Context) -> str:
        '''The input in capitals.'''
        return str(task.input).upper()

The result is any JSON value, or a pydantic model. It is handed to the judge: an agent cannot
accept its own work. A plain `def` is allowed too: it runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from chimera.agents.proposals import Proposals
from chimera.agents.secrets import Secrets
from chimera.agents.toolcalls import ToolCall, ToolCalls
from chimera.core import trace
from chimera.core.action import Action
from chimera.core.task import Task
from chimera.errors import FleetUnavailable

if TYPE_CHECKING:  # the client pulls in a model library: only those who make one pay for it
    from chimera.agents.models.client import ModelClient


class Agent(Protocol):
    """An agent: `async def agent(task, ctx) -> result`, or the same as a plain `def`."""

    def __call__(self, task: Task, ctx: Context, /) -> Any: ...


def unheard(_text: str) -> None:
    """Where progress goes when nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One attempt's surroundings. The executor makes it; agents read it.

    Attributes:
        tenant, mission_id, task_id: whose attempt this is.
        attempt: 1 for the first.
        round: 0 at first; it grows when a result is rejected or the task redriven. Attempts of one
            round are runs of the same work: what one has paid for, the next is given.
        model: the model client, bound to this attempt's budget, deadline and name.
        options: the agent's own options: what the mission states, and the defaults of the model that
            `@agent(options=Model)` names. `Model.model_validate(ctx.options)` is that model.
        deadline: when the attempt is ended from outside (aware), or None.
        idempotency_key: the same for every run of this attempt's work: hand it to services that
            take one, so that a re-run after a crash does nothing twice.
        cancellation: set when the attempt's work is no longer wanted.
        hub_url: where the hub answers, for calls that are no `model`'s; "" where there is none.
        report: where `progress` goes; any thread may call it.
        proposals: where `propose` goes.
        traceparent: the span of this attempt, for the header of that name: calls that carry it are found in
            the trace that the mission was submitted within. `model` and `openai()` send it by themselves.
        tools: where `tool` goes.
        secrets: the tenant's own, by name: ``ctx.secrets["CRM_TOKEN"]``. What is printed of it are names.
    """

    tenant: str
    mission_id: str
    task_id: str
    attempt: int
    model: ModelClient
    round: int = 0
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    deadline: datetime | None = None
    idempotency_key: str = ""
    cancellation: asyncio.Event = field(default_factory=asyncio.Event)
    hub_url: str = ""
    report: Callable[[str], None] = unheard
    proposals: Proposals = field(default_factory=Proposals)
    tools: ToolCalls = field(default_factory=ToolCalls)
    secrets: Secrets = field(default_factory=Secrets)
    traceparent: str = ""

    @property
    def cancelled(self) -> bool:
        """Whether the work is no longer wanted: a blocking agent looks here between steps."""
        return self.cancellation.is_set()

    def openai(self) -> dict[str, Any]:
        """What a client of OpenAI's kind takes so that this task pays for its calls, and its limits bind.

        ``AsyncOpenAI(api_key=…, **ctx.openai())``: base URL and headers. The key is the tenant's, with the
        right to submit; no agent is given one, so hand it yours (docs/any-framework.md).

        Raises:
            FleetUnavailable: there is no hub, as under `chimera agent run`.
        """
        if not self.hub_url:
            raise FleetUnavailable("this agent runs without a hub: call `ctx.model`, or start a fleet")
        return {
            "base_url": f"{self.hub_url.rstrip('/')}/v1",
            "default_headers": {
                "X-Chimera-Task": self.task_id,
                **({trace.HEADER: self.traceparent} if self.traceparent else {}),
            },
        }

    def progress(self, text: str) -> None:
        """Tell those who watch the mission what is being done now; never waits."""
        self.report(text)

    def tool(self, name: str, arguments: Any = None) -> ToolCall:
        """Take down a call of a tool in the flight recorder: ``async with``, or ``with``, around the call.

        ::

            async with ctx.tool("search", {"query": query}) as call:
                call.result = found = await search(query)

        Name, time, and what went wrong are kept; of arguments and result their length and hash
        (CHIMERA_RECORDER_PAYLOADS keeps more). It is written when the attempt ends: nothing waits for it.
        """
        return ToolCall(self.tools, name, arguments)

    def propose(self, action: Action) -> int:
        """Ask for a side effect: kept with the result, carried out once that is accepted. Any thread may.

        Nothing is sent now, and nothing ever if the result is rejected or refused. Returns the action's
        index; its receiver gets ``Idempotency-Key: <tenant>/<task_id>/<index>`` at every try.

        Raises:
            Rejected: its host is not in CHIMERA_ACTION_HOSTS, or there are more than CHIMERA_MAX_ACTIONS.
            PayloadTooLarge: it is over CHIMERA_MAX_ACTION_BYTES.
            Conflict: the attempt is over.
        """
        return self.proposals.add(action)
