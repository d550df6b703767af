"""Taking a mission in: checked whole, its inputs stored, then acknowledged, in this order.

A small mission's inputs are stored with its acknowledgement, as tasks that may be claimed at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from referencing import Registry

from chimera.agents.registry import Registry as Agents
from chimera.core.depth import MAX_DEPTH, too_deep
from chimera.core.judge import JudgePolicy, RulesPolicy, SchemaPolicy
from chimera.core.mission import DagPlan, MapReducePlan, MissionBase
from chimera.core.plan import Window, is_large, is_small, next_window, total_tasks
from chimera.errors import AlreadyExists, Forbidden, InvalidRequest, PayloadTooLarge, QueueFull
from chimera.judging.patterns import compiled
from chimera.judging.schema import check_schema
from chimera.serving.gateway.auth import Caller
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.ids import new_mission_id
from chimera.settings import Settings
from chimera.store.missions import Receipt
from chimera.store.uploads import BATCH_BYTES, Upload

BUILT_IN = Agents.built_in()
ITEM_SETTING = "CHIMERA_MAX_INPUT_BYTES"
ITEM_COST = 32
"""What one more input of a batch counts for beside its bytes: small ones take time too."""
CHECK_S = 5.0
"""A mission's options and policies are checked within this time."""


async def take_in(
    spec: MissionBase,
    inputs: AsyncIterator[Sequence[bytes]],
    caller: Caller,
    idempotency_key: str,
    traceparent: str = "",
) -> Receipt:
    """Submit a mission. A small one is planned with it, and its inputs are in its tasks alone.

    Args:
        inputs: lines of JSON in batches, each line checked; stored as they come, so that no more than a
            piece of them is in memory (`chimera.store.uploads`).
        traceparent: the trace that it is submitted within, accepted (`chimera.core.trace`); or "".

    Raises:
        InvalidRequest: with every problem; nothing was stored.
        PayloadTooLarge: naming the item.
        AlreadyExists: the key came before with another request.
        Forbidden: the tenant was suspended or removed meanwhile.
        QueueFull: the store, or the tenant's quota, has no room for new work; nothing was stored.
        StoreError: not acknowledged; with an idempotency key it may safely be sent again.
    """
    base = caller.hub.base
    for where, value in documents(spec):
        check_size(where, value, base.settings.max_input_bytes)
    async with promptly():
        await base.room.require()  # before anything is stored for nothing
        agents = await base.catalogue.recent()
        if any(agent not in agents for agent, _ in uses(spec).values()):
            agents = await base.catalogue.all()  # it may have been registered just now
    asked = caller.hub.found_good.digest(spec)
    if not caller.hub.found_good.has(asked, agents):
        if problems := await asyncio.to_thread(checked, spec, agents):
            raise InvalidRequest("the mission cannot be taken; nothing was submitted", tuple(problems))
        caller.hub.found_good.add(asked, agents)
    mission_id = new_mission_id()
    upload = Upload(base.blobs, caller.tenant, mission_id, clock=partial(_now_us, caller))
    try:
        async for lines in inputs:
            await upload.add(lines)
        window = planned(spec, upload, base.settings)
        if window is None:
            await upload.end()
    except BaseException:
        await upload.discard()
        raise
    try:
        receipt = await _acknowledge(mission_id, spec, upload, window, caller, idempotency_key, traceparent)
    except (AlreadyExists, Forbidden, QueueFull):
        await upload.discard()
        raise
    # Whatever else went wrong, the mission may stand: its inputs stay, and are looked at later by their note.
    if receipt.made:
        await upload.acknowledged()
    else:
        await upload.discard()
    return receipt


async def _now_us(caller: Caller) -> int:
    async with promptly():
        return await caller.stores.missions.now_us()


def planned(spec: MissionBase, upload: Upload, settings: Settings) -> Window | None:
    """All tasks of a small mission; None for another, whose inputs must be stored."""
    lines, count = upload.unwritten, upload.count
    tasks = total_tasks(spec, count, settings.reduce_width)
    if lines is None or not is_small(tasks, len(lines) + own_bytes(spec), settings.plan_window):
        return None
    items = tuple(map(orjson.loads, lines.splitlines()))
    return next_window(spec, items, cursor=0, inputs=count, width=settings.reduce_width)


def own_bytes(spec: MissionBase) -> int:
    """Of the inputs that a plan itself names, as JSON."""
    nodes = spec.plan.nodes if isinstance(spec.plan, DagPlan) else ()
    return sum(len(orjson.dumps(node.input)) for node in nodes if node.input is not None)


async def _acknowledge(
    mission_id: str,
    spec: MissionBase,
    upload: Upload,
    window: Window | None,
    caller: Caller,
    idempotency_key: str,
    traceparent: str,
) -> Receipt:
    settings = caller.hub.base.settings
    async with promptly():
        return await caller.stores.missions.submit(
            mission_id,
            spec,
            inputs=upload.count,
            total_tasks=total_tasks(spec, upload.count, settings.reduce_width),
            timeout_s=spec.task_timeout_s or settings.task_timeout_s,
            max_attempts=spec.max_attempts or settings.max_attempts,
            by=str(caller.principal),
            idempotency_key=idempotency_key,
            inputs_digest=upload.digest if idempotency_key else "",
            max_ready=settings.tenant_max_ready,
            slo_s=settings.slo_s,
            large=is_large(spec, upload.count),
            window=window,
            traceparent=traceparent,
        )


async def listed(items: Sequence[Any], settings: Settings) -> AsyncIterator[Sequence[bytes]]:
    """Inputs that came with their mission in one document: checked, a batch at a time, others let in between.

    Raises:
        InvalidRequest: there are too many.
        PayloadTooLarge, InvalidRequest: naming the first that is too large, or that cannot be stored.
    """
    check_count(len(items), settings.max_inputs)
    at = 0
    while at < len(items):
        batch: list[bytes] = []
        size = 0
        while at < len(items) and size < BATCH_BYTES:
            batch.append(stored(f"inputs[{at}]", items[at], settings.max_input_bytes))
            size += len(batch[-1]) + ITEM_COST
            at += 1
        yield batch
        await asyncio.sleep(0)


def check_count(count: int, most: int) -> None:
    """Refuse too many inputs.

    Raises:
        InvalidRequest: naming how many there are.
    """
    if count > most:
        raise InvalidRequest(
            "the mission cannot be taken; nothing was submitted",
            (
                f"inputs: {count:,} items, over the limit of {most:,}: "
                "split the mission, or raise CHIMERA_MAX_INPUTS",
            ),
        )


def check_size(where: str, value: Any, limit: int) -> None:
    """Refuse a document that is over the limit or cannot be stored as JSON. Raises as `stored` does."""
    stored(where, value, limit)


def stored(where: str, value: Any, limit: int) -> bytes:
    """A document as a line of JSON.

    Raises:
        PayloadTooLarge, InvalidRequest: naming the place.
    """
    try:
        line = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as exc:
        raise _unfit(where, str(exc)) from exc
    if len(line) - 1 > limit:
        raise PayloadTooLarge(where, len(line) - 1, limit, ITEM_SETTING)
    if too_deep(value, line):
        raise _unfit(where, f"it has more than {MAX_DEPTH} levels")
    return line


def _unfit(where: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        "the request cannot be taken; nothing was changed",
        (f"{where}: it cannot be stored as JSON ({why}): make it flatter or simpler",),
    )


def documents(spec: MissionBase) -> Iterator[tuple[str, Any]]:
    """Everything of free size in a mission beside its inputs, with its place."""
    yield "context", spec.context
    yield "options", spec.options
    if isinstance(spec.plan, MapReducePlan):
        yield "plan.reduce.options", spec.plan.reduce.options
    if isinstance(spec.plan, DagPlan):
        for index, node in enumerate(spec.plan.nodes):
            yield f"plan.nodes[{index}].input", node.input
            yield f"plan.nodes[{index}].options", node.options


def checked(spec: MissionBase, agents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What no agent or judge could take. For a thread: a tenant's schemas are checked here, some for long.

    Raises:
        InvalidRequest: it takes longer than `CHECK_S`.
    """
    until = time.monotonic() + CHECK_S
    problems: list[str] = []
    for found in chain(agent_problems(spec, agents), judge_problems(spec)):
        problems += found
        if time.monotonic() > until:
            raise InvalidRequest(
                f"the mission cannot be taken: to check its options and policies takes over {CHECK_S:g} s; "
                "use fewer or smaller schemas; nothing was submitted",
                tuple(problems),
            )
    return problems


ITS_OWN = "agents of your own: CHIMERA_AGENTS, or `chimera up --agents FILE`"


def agent_problems(spec: MissionBase, agents: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    """Agents that are not registered, and options that do not fit those that are; place by place."""
    for where, (agent, options) in uses(spec).items():
        if agent not in agents:
            known = ", ".join(sorted(agents)) or "none yet: the fleet is starting, or CHIMERA_AGENTS is wrong"
            yield [f"{where}agent: no agent is named {agent!r}; registered: {known} ({ITS_OWN})"]
        elif agent in BUILT_IN:
            yield list(_own_problems(where, agent, options))
        elif schema := agents[agent].get("options_schema"):
            yield list(_option_problems(where, agent, options, schema))


def _option_problems(
    where: str, agent: str, options: Mapping[str, Any], schema: Mapping[str, Any]
) -> Iterator[str]:
    # An empty registry: a schema's $ref is never fetched from anywhere.
    for error in Draft202012Validator(schema, registry=Registry()).iter_errors(options):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.path)
        yield f"{where}options{path}: {error.message} (options of agent {agent!r})"


def _own_problems(where: str, agent: str, options: Mapping[str, Any]) -> Iterator[str]:
    """What the option model of an agent of ours says: of others the hub knows a JSON Schema only."""
    try:
        BUILT_IN.get(agent).options_of(options)
    except InvalidRequest as exc:
        yield from (f"{where}{problem}" for problem in exc.problems)


def uses(spec: MissionBase) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Each agent a mission names, with its options, by the place that names it."""
    if isinstance(spec.plan, DagPlan):
        # The mission's own agent matters only where a node does not name another.
        return {
            f"plan.nodes[{index}].": (
                node.agent or spec.agent,
                spec.options if node.options is None else node.options,
            )
            for index, node in enumerate(spec.plan.nodes)
        }
    found: dict[str, tuple[str, Mapping[str, Any]]] = {"": (spec.agent, spec.options)}
    if isinstance(spec.plan, MapReducePlan):
        found["plan.reduce."] = (spec.plan.reduce.agent, spec.plan.reduce.options)
    return found


def judge_problems(spec: MissionBase) -> Iterator[list[str]]:
    """Policies that no judge could apply; one policy after the other."""
    places = {"judge": spec.judge}
    if isinstance(spec.plan, MapReducePlan) and spec.plan.reduce.judge:
        places["plan.reduce.judge"] = spec.plan.reduce.judge
    if isinstance(spec.plan, DagPlan):
        places |= {
            f"plan.nodes[{index}].judge": node.judge
            for index, node in enumerate(spec.plan.nodes)
            if node.judge
        }
    for where, policies in places.items():
        for index, policy in enumerate(policies):
            yield list(policy_problems(f"{where}[{index}]", policy))


def policy_problems(where: str, policy: JudgePolicy) -> Iterator[str]:
    """What keeps a policy from being applied: a schema or a pattern that its engine does not take."""
    if isinstance(policy, SchemaPolicy):
        try:
            check_schema(policy.json_schema)
        except ValueError as exc:
            yield f"{where}.schema: {exc}"
    if isinstance(policy, RulesPolicy):
        for name, patterns in (("required", policy.required), ("forbidden", policy.forbidden)):
            for index, pattern in enumerate(patterns):
                try:
                    compiled(pattern)
                except ValueError as exc:
                    yield f"{where}.{name}[{index}]: {exc}"
