"""Estimating a mission: the calls its agents and judges would make, the tenant's past, the limits now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from chimera.agents import template
from chimera.agents.llm import LlmOptions
from chimera.agents.models.client import FRAME_TOKENS
from chimera.agents.models.embedded import MODEL_NAME
from chimera.agents.models.prices import PriceList, Tokens
from chimera.core.estimate import (
    BYTES_PER_TOKEN,
    JUDGE,
    LIKELY_SHARE,
    MOST_RESULT_BYTES,
    OTHER_BYTES,
    Asking,
    Bounds,
    Estimate,
    History,
    Part,
    Rate,
    Sizes,
    estimate,
    judging,
    tasks_by_stage,
    work,
)
from chimera.core.event import Position
from chimera.core.judge import JudgePolicy, LlmPolicy
from chimera.core.mission import DagPlan, MapReducePlan, MissionBase, Stage
from chimera.core.recurrence import Every
from chimera.errors import ConfigurationError, InvalidRequest
from chimera.judging.llm import MAX_QUOTED_CHARS
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.judge import MAX_FAILURES
from chimera.runtime.spending import limits
from chimera.runtime.unhurried import events
from chimera.settings import Settings

LLM = "llm"
"""The one agent whose calls are known before it runs."""
FEEDBACK_BYTES = 4_000
"""The most that a judge's feedback adds to a further attempt's prompt."""
LOOKS_DAYS = (1.0, 7.0, 30.0)
"""How far back the history is read: further where too little was found."""
JUDGES_WORDS = 1_000
"""Bytes of a judge's prompt beside rubric, goal, input and result; at least that much."""
QUOTED_BYTES = MAX_QUOTED_CHARS * 4
"""The most of one quoted part, in bytes."""


async def estimated(
    base: Base, tenant: str, spec: MissionBase, sizes: Sizes, every: Every | None = None
) -> Estimate:
    """What a mission will cost. Nothing is stored.

    Args:
        sizes: of its inputs.
    Raises:
        InvalidRequest: a model it calls has no price.
        CorruptRecord, StoreUnavailable: the tenant's history cannot be read.
    """
    stores = base.of(tenant)
    standing = await stores.spending.standing()
    history = await _history(stores, standing.at, spec)
    # The price list takes a while to import, the first time.
    try:
        parts = await asyncio.to_thread(_parts, base.settings, spec, sizes, history)
    except ConfigurationError as exc:  # CHIMERA_UNPRICED=refuse: its calls would be refused too
        raise InvalidRequest(f"the mission cannot be estimated: {exc}") from exc
    bounds = _bounds(base.settings, spec)
    return estimate(spec, sizes.count, parts, limits(standing), bounds, every)


async def _history(stores: TenantStores, now: datetime, spec: MissionBase) -> History:
    """The past of all that pays in a mission: as far back as it takes to know enough, or as it goes."""
    wanted = {stage.agent for stage in spec.stages.values()}
    if any(_models(stage.judge) for stage in spec.stages.values()):
        wanted.add(JUDGE)
    history = History(0)
    for days in LOOKS_DAYS:
        history = History(days)
        start = Position.before(round((now - timedelta(days=days)).timestamp() * 1000))
        async for event in events(stores.recorder, after=start):
            if event.at > now:
                break
            history.take(event)
        if all(history.of(agent) for agent in wanted):
            break
    return history


def _bounds(settings: Settings, spec: MissionBase) -> Bounds:
    return Bounds(
        attempts=spec.max_attempts or settings.max_attempts,
        tries=settings.model_retries + 1,
        judgings=MAX_FAILURES,
        width=settings.reduce_width,
        result_bytes=settings.max_result_bytes,
    )


def _parts(settings: Settings, spec: MissionBase, sizes: Sizes, history: History) -> list[Part]:
    bounds, prices = _bounds(settings, spec), PriceList(settings)
    goal, data = len(spec.goal.encode()), len(json.dumps(spec.context).encode())
    parts: list[Part] = []
    for name, tasks in tasks_by_stage(spec, sizes.count, settings.reduce_width).items():
        stage = spec.stages[name]
        given = _given(spec, name, sizes, settings)
        filling = {"goal": Reach(goal, goal), "data": Reach(data, data), **given}
        asking, model = _asking(settings, stage, filling)
        rate = _rate(settings, prices, model)
        parts.append(work(name, stage, tasks, asking, rate, history.of(stage.agent), bounds))
        for judge, rubrics in _models(stage.judge).items():
            told = _judging(settings, rubrics, filling, _result(settings, stage))
            rate = _rate(settings, prices, judge or settings.judge_model or settings.model)
            parts.append(judging(name, len(rubrics), tasks, told, rate, history.of(JUDGE), bounds))
    return parts


@dataclass(frozen=True, slots=True)
class Reach:
    """Bytes of something: as they are likely, and at the most."""

    likely: int
    most: int

    def times(self, count: int) -> Reach:
        """So many of them."""
        return Reach(self.likely * count, self.most * count)

    def quoted(self) -> Reach:
        """As a judge is shown it."""
        return Reach(min(self.likely, QUOTED_BYTES), min(self.most, QUOTED_BYTES))


def _models(policies: tuple[JudgePolicy, ...]) -> dict[str, list[str]]:
    """Rubrics by the model that is to judge by them ("": the environment's)."""
    found: dict[str, list[str]] = {}
    for one in policies:
        if isinstance(one, LlmPolicy):
            found.setdefault(one.model or "", []).append(one.rubric)
    return found


def _given(spec: MissionBase, name: str, sizes: Sizes, settings: Settings) -> dict[str, Reach]:
    """What a task of a stage gets: its input, and the results that it takes in."""
    nothing = Reach(0, 0)
    if isinstance(spec.plan, DagPlan):
        node = next(one for one in spec.plan.nodes if one.name == name)
        size = 0 if node.input is None else len(json.dumps(node.input, ensure_ascii=False).encode())
        taken = [_result(settings, spec.stages[one]) for one in node.depends_on]
        inputs = Reach(sum(one.likely for one in taken), sum(one.most for one in taken))
        return {"input": Reach(size, size), "inputs": inputs}
    if name == "reduce" and isinstance(spec.plan, MapReducePlan):
        width = min(spec.plan.width or settings.reduce_width, sizes.count)
        results = [_result(settings, stage) for stage in spec.stages.values()]
        largest = Reach(max(one.likely for one in results), max(one.most for one in results))
        return {"input": nothing, "inputs": largest.times(width)}
    return {"input": Reach(sizes.mean_bytes, sizes.max_bytes), "inputs": nothing}


def _max_tokens(settings: Settings, stage: Stage) -> int:
    most = LlmOptions.model_validate(stage.options).max_tokens if stage.agent == LLM else None
    return most or settings.model_max_tokens


def _result(settings: Settings, stage: Stage) -> Reach:
    """Bytes of a stage's result."""
    most = settings.max_result_bytes
    if stage.agent != LLM:
        return Reach(min(OTHER_BYTES, most), most)
    tokens = _max_tokens(settings, stage)
    likely = round(tokens * LIKELY_SHARE * BYTES_PER_TOKEN)
    return Reach(min(likely, most), min(tokens * MOST_RESULT_BYTES, most))


def _asking(settings: Settings, stage: Stage, filling: Mapping[str, Reach]) -> tuple[Asking, str]:
    """What one call of a stage's agent sends, and to which model."""
    max_tokens = _max_tokens(settings, stage)
    if stage.agent != LLM:
        likely = OTHER_BYTES + sum(one.likely for one in filling.values())
        most = OTHER_BYTES + sum(one.most for one in filling.values())
        return Asking(likely, most, FRAME_TOKENS, max_tokens, known=False), settings.model
    options = LlmOptions.model_validate(stage.options)
    text = options.prompt + (options.system or "")
    fixed = len(template.TOKEN.sub("", text).encode())
    if options.output_schema is not None:
        fixed += len(json.dumps(options.output_schema).encode())
    named = [match[1].partition(".")[0] for match in template.TOKEN.finditer(text) if match[1]]
    filled = [filling[one] for one in named if one in filling]
    return (
        Asking(
            fixed + sum(one.likely for one in filled),
            fixed + sum(one.most for one in filled) + FEEDBACK_BYTES,
            FRAME_TOKENS,
            max_tokens,
            known=True,
        ),
        options.model or settings.model,
    )


def _judging(settings: Settings, rubrics: list[str], filling: Mapping[str, Reach], result: Reach) -> Asking:
    """What a judge sends, by the longest of the rubrics."""
    rubric = max(len(one.encode()) for one in rubrics)
    shown = [one.quoted() for name, one in filling.items() if name != "data"] + [result.quoted()]
    return Asking(
        JUDGES_WORDS + rubric + sum(one.likely for one in shown),
        JUDGES_WORDS + rubric + sum(one.most for one in shown),
        FRAME_TOKENS,
        settings.model_max_tokens,
        known=True,
    )


def _rate(settings: Settings, prices: PriceList, model: str) -> Rate:
    """A model's price, by the name it has in the environment or in a mission."""
    from chimera.agents.models.providers import is_provider  # noqa: PLC0415 (it takes seconds)

    name = model or MODEL_NAME
    provider, colon, rest = name.partition(":")
    # As `chimera.agents.models.opening` reads it: a known provider, or a name at the endpoint of one's own.
    if colon and is_provider(provider):
        price, name = prices.price(rest, provider=provider), rest
    else:
        price = prices.price(name, url=settings.model_url)

    def cost(tokens_in: int, tokens_out: int) -> int:
        return price.cost_microusd(Tokens(input=tokens_in, output=tokens_out))

    return Rate(name, cost, price.worst_case_microusd, price.version)
