"""Brakes in the store: looked at and moved by the governor for many tenants at once, by people one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from chimera.core.brake import MAX_OVERRIDE_S, Brake, BrakeCause, BrakeState, Burn, Decision
from chimera.errors import ChimeraError, Conflict, CorruptRecord, InvalidRequest
from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Refusal, Scripts, under_term

MAX_REASON_CHARS = 500


class Order(StrEnum):
    """What a person does to a brake."""

    FREEZE = "freeze"
    """No paid call starts until it is thawed."""
    THAW = "thaw"
    """Open; what was spent before is not counted any more."""
    OVERRIDE = "override"
    """Open, and left so for a while."""


@dataclass(frozen=True, slots=True)
class Look:
    """A tenant's brake, and what it was decided on.

    Attributes:
        notices: changes that the webhook was not told yet.
    """

    brake: Brake
    burn: Burn
    notices: int


class Moved(NamedTuple):
    """A change of a brake that was made, as its event in the recorder tells it."""

    at_ms: int
    before: str
    after: str
    cause: str
    by: str
    reason: str
    figures: Mapping[str, float | int]


class Move(NamedTuple):
    """What a look led to."""

    tenant: str
    seen: Brake
    decision: Decision


@dataclass(frozen=True, slots=True)
class CanaryRecord:
    """What is known of the canary. Instants in µs, 0: none.

    Attributes:
        said: what came of the last one; "" before the first.
        at_us: when.
        proven_us: when one was refused last, as it must.
        failure: the failure that stands until a person clears it; "" none.
        failed_us: since when.
        now_us: the store's clock.
    """

    said: str
    detail: str
    at_us: int
    proven_us: int
    failure: str
    failed_us: int
    now_us: int


class BrakeStore:
    """Every tenant's brake, and the canary's record.

    Args:
        canary: where that record is.
    """

    def __init__(self, redis: Redis, canary: str = keys.CANARY) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._canary = canary

    async def look(
        self, tenants: Sequence[str], *, short_s: int, long_s: int, term: int | None = None
    ) -> dict[str, Look | ChimeraError]:
        """Each tenant's brake and what it spent, in one round trip; of one that is damaged, the error.

        Args:
            term: the governor's, whose look also takes off what is too old; None for whoever only looks.
        Raises:
            OldTerm: a newer governor acts.
            StoreUnavailable, StoreTimeout: the store is away.
        """
        asked = ["" if term is None else term, short_s, long_s]
        answers = await self._scripts.run_each(
            "weigh_burn", [([TenantKeys(tenant).root], asked) for tenant in tenants]
        )
        return {
            tenant: answer if isinstance(answer, ChimeraError) else _look(under_term(answer))
            for tenant, answer in zip(tenants, answers, strict=True)
        }

    async def move(self, moves: Sequence[Move], *, term: int, by: str) -> list[bool | ChimeraError]:
        """Write what was decided, in one round trip.

        Returns, per move: whether it stands so; False when the brake has changed since it was looked at; of
        one that is damaged, the error.

        Raises:
            OldTerm: a newer governor acts.
            StoreUnavailable, StoreTimeout: the store is away; some may be written.
        """
        answers = await self._scripts.run_each(
            "move_brake",
            [
                (
                    [TenantKeys(tenant).root],
                    [
                        *(term, by, seen.changes, decision.state, decision.cause),
                        *(decision.calm_since_us, decision.canary, json.dumps(dict(decision.figures))),
                    ],
                )
                for tenant, seen, decision in moves
            ],
        )
        return [
            answer if isinstance(answer, ChimeraError) else bool(under_term(answer) == 1)
            for answer in answers
        ]

    async def order(
        self,
        tenant: str,
        order: Order,
        operation: str,
        *,
        by: str,
        reason: str,
        seconds: float = 0,
        of_fleet: bool = False,
    ) -> None:
        """Move a brake by a person's word; once for an operation.

        Args:
            seconds: how long an override lasts, from now by the store's clock.
            of_fleet: the fleet's operator orders, who alone undoes what the canary froze.
        Raises:
            InvalidRequest: there is no reason, or the override has no possible length; nothing was changed.
            Conflict: the canary froze it.
        """
        reason = " ".join(reason.split())
        if not reason or len(reason) > MAX_REASON_CHARS:
            raise InvalidRequest(f"a reason is needed, in at most {MAX_REASON_CHARS} characters")
        if order is Order.OVERRIDE and not 1 <= seconds <= MAX_OVERRIDE_S:
            raise InvalidRequest(f"an override lasts 1 to {MAX_OVERRIDE_S} seconds, not {seconds:g}")
        answer = await self._scripts.run(
            "order_brake",
            [TenantKeys(tenant).root],
            *(operation, by, order, reason, round(seconds), int(of_fleet)),
        )
        if answer == Refusal.LOST:
            raise Conflict(
                "the canary froze this tenant, since a reservation was granted that had to be refused: only "
                "the fleet's operator lets go, with `chimera governor thaw`"
            )

    async def moves(self, tenant: str, most: int) -> list[Moved]:
        """A brake's last changes, the newest first; the recorder has all.

        Raises:
            CorruptRecord: they cannot be read.
        """
        with translated():
            found = await self._redis.lrange(TenantKeys(tenant).moves, 0, most - 1)
            return [_moved(json.loads(text)) for text in found]

    async def notices(self, tenant: str, most: int) -> list[str]:
        """Changes that the webhook is to be told, oldest first (JSON)."""
        with translated():
            return list(await self._redis.lrange(TenantKeys(tenant).notices, 0, most - 1))

    async def told(self, tenant: str, notice: str) -> None:
        """The webhook has heard of it, or never will; idempotent."""
        with translated():
            await self._redis.lrem(TenantKeys(tenant).notices, 1, notice)

    async def report_canary(self, said: str, detail: str, canary_id: str, *, term: int) -> str:
        """Say what came of a canary. The failure that stands, "" for none.

        Raises:
            OldTerm: a newer governor acts.
        """
        answer = await self._scripts.run("report_canary", [self._canary], term, canary_id, said, detail)
        return str(under_term(answer))

    async def clear_canary(self) -> None:
        """A person has seen to the canary's failure; idempotent."""
        with translated():
            await self._redis.hdel(self._canary, "failure", "failed")

    async def trim_canary(self, most: int) -> None:
        """Keep only so many of the newest entries of the recorder under the canary's root."""
        with translated():
            await self._redis.xtrim(TenantKeys(keys.CANARY).log, maxlen=most, approximate=False)

    async def canary(self) -> CanaryRecord:
        """What is known of the canary."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hgetall(self._canary)
                pipe.time()
                said, (seconds, micros) = await pipe.execute()
            return CanaryRecord(
                said.get("said", ""),
                said.get("detail", ""),
                int(said.get("at", 0)),
                int(said.get("proven", 0)),
                said.get("failure", ""),
                int(said.get("failed", 0)),
                int(seconds) * 1_000_000 + int(micros),
            )


def brake_of(fields: Mapping[str, str]) -> Brake:
    """A brake from its hash.

    Raises:
        CorruptRecord: it cannot be read.
    """
    try:
        return Brake(
            state=BrakeState(fields.get("state", "open")),
            cause=BrakeCause(fields.get("cause", "")),
            since_us=int(fields.get("since", 0)),
            by=fields.get("by", ""),
            reason=fields.get("reason", ""),
            calm_since_us=int(fields.get("calm_since", 0)),
            counted_from_us=int(fields.get("counted_from", 0)),
            override_until_us=int(fields.get("override_until", 0)),
            canary=fields.get("canary", ""),
            changes=int(fields.get("changes", 0)),
            figures=json.loads(fields.get("figures", "{}")) or {},
        )
    except ValueError as exc:
        raise CorruptRecord(
            f"the brake cannot be read ({exc}): set it anew with `chimera governor freeze` or `thaw`"
        ) from exc


def _look(answer: Sequence[Any]) -> Look | ChimeraError:
    now, short, long, unaccepted, since, busy, notices, brake, limits = answer
    try:
        of_tenant = {window: int(limit) for window, limit in _pairs(limits).items()}
        return Look(
            brake_of(_pairs(brake)),
            Burn(int(now), int(short), int(long), int(unaccepted), int(since), int(busy), of_tenant),
            int(notices),
        )
    except CorruptRecord as exc:
        return exc
    except ValueError as exc:
        return CorruptRecord(f"the tenant's limits cannot be read ({exc}): set them anew")


def _moved(said: Mapping[str, Any]) -> Moved:
    return Moved(
        int(said["at_ms"]),
        str(said["from"]),
        str(said["to"]),
        str(said["cause"]),
        str(said["by"]),
        str(said["reason"]),
        said["figures"] or {},  # an empty table of Lua's is written as []
    )


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
