"""What stands of many tenants now, in two round trips however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from chimera.core.gauges import Gauges
from chimera.core.task import Priority
from chimera.store.connection import Redis, ask, translated
from chimera.store.keys import TenantKeys

MOST_WORKERS = 10_000
"""Workers of one tenant that are looked at."""


async def gauges(redis: Redis, tenants: Sequence[str]) -> dict[str, Gauges]:
    """Of each tenant. Figures of one tenant may be some milliseconds apart."""
    if not tenants:
        return {}
    of = [TenantKeys(tenant) for tenant in tenants]
    with translated():
        (seconds, micros), *found = await ask(
            redis, [("TIME",), *(one for keys in of for one in _asked(keys))]
        )
        now_us = int(seconds) * 1_000_000 + int(micros)
        answers = [found[at : at + COUNT] for at in range(0, len(found), COUNT)]
        beating = [_beating(answer[0], now_us) for answer in answers]
        asked = [
            ("HMGET", keys.of("worker", worker), "slots", "busy")
            for keys, workers in zip(of, beating, strict=True)
            for worker in workers
        ]
        slots = iter(await ask(redis, asked) if asked else [])
    return {
        tenant: _gauges(answer, list(islice(slots, len(workers))))
        for tenant, answer, workers in zip(tenants, answers, beating, strict=True)
    }


def _asked(keys: TenantKeys) -> list[tuple[str | int, ...]]:
    return [
        ("ZRANGE", keys.workers, 0, MOST_WORKERS - 1, "WITHSCORES"),
        ("HMGET", keys.depth, *Priority),
        ("ZCARD", keys.leases),
        ("LLEN", keys.review),
        ("ZCARD", keys.judging),
        ("ZCARD", keys.inbox),
        ("ZCARD", keys.outbox),
        ("ZCARD", keys.active),
        ("ZCARD", keys.finished),
        ("HMGET", keys.ledger, "settled:lifetime", "held"),
    ]


COUNT = len(_asked(TenantKeys("")))


def _beating(workers: Sequence[tuple[str, float]], now_us: int) -> list[str]:
    return [worker for worker, until in workers if until > now_us]


def _gauges(answer: Sequence[object], slots: Sequence[Sequence[str | None]]) -> Gauges:
    _, depth, *sizes, money = answer
    ready = dict(zip(Priority, _figures(depth), strict=True))
    leases, waiting, judging, inbox, outbox, active, finished = _figures(sizes)
    settled, held = _figures(money)
    total, busy = (sum(figures) for figures in zip(*map(_figures, slots), strict=True)) if slots else (0, 0)
    return Gauges(
        ready_high=max(0, ready[Priority.HIGH]),
        ready_medium=max(0, ready[Priority.MEDIUM]),
        ready_low=max(0, ready[Priority.LOW]),
        leases=leases,
        workers=len(slots),
        slots_busy=busy,
        slots_free=max(0, total - busy),
        reviews=waiting + judging,
        inbox=inbox,
        actions=outbox,
        missions_active=active,
        missions_finished=finished,
        settled_microusd=settled,
        held_microusd=held,
    )


def _figures(found: object) -> list[int]:
    """Whole numbers; 0 where none is there."""
    assert isinstance(found, Sequence)
    return [int(one or 0) for one in found]
