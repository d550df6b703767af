"""How well high priority was served: what the accepting scripts counted (lua/include/accept.lua)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chimera.core.histogram import BOUNDS_MS, Histogram
from chimera.core.series import NAMED, Sample
from chimera.core.tally import BUCKETS, Tally
from chimera.core.task import Priority
from chimera.store.connection import Redis, ask, translated
from chimera.store.keys import TenantKeys


@dataclass(frozen=True, slots=True)
class Served:
    """One tenant's accepted tasks of high priority, since its first.

    Attributes:
        within: how many took at most each bound and more than the one before; the last, more than all bounds.
        seconds: how long all took together.
        breaches: how many took longer than promised.
    """

    within: tuple[int, ...]
    seconds: float
    breaches: int


async def served(redis: Redis, tenants: Sequence[str]) -> dict[str, Served]:
    """Of each tenant, in one round trip."""
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for tenant in tenants:
                pipe.hgetall(TenantKeys(tenant).slo)
            found = await pipe.execute()
    return {
        tenant: Served(
            tuple(int(counts.get(f"within:{n}", 0)) for n in range(1, len(BOUNDS_MS) + 2)),
            int(counts.get("ms", 0)) / 1000,
            int(counts.get("breaches", 0)),
        )
        for tenant, counts in zip(tenants, found, strict=True)
    }


_TIMES = f"task:{Priority.HIGH.value}"
_FIELDS = ("slo.breached", *(f"{_TIMES}:{part}" for part in (*range(1, BUCKETS + 1), "ms")))


@dataclass(frozen=True, slots=True)
class Lately:
    """Tasks of high priority that were accepted lately.

    Attributes:
        times: from ready to accepted, whatever they waited for.
        breaches: how many took longer than promised, by the promise's own clock: a human's time is not in it.
    """

    times: Histogram
    breaches: int


async def lately(redis: Redis, tenants: Sequence[str], seconds: float) -> Lately:
    """Of all these tenants together, in the last so many seconds, to within a sample's distance; in two round
    trips."""
    times, breaches = Histogram(), 0
    with translated():
        now_s, micros = await redis.time()
        from_ms = int(now_s) * 1000 + int(micros) // 1000 - round(seconds * 1000)
        reads: list[tuple[str | int, ...]] = []
        for keys in map(TenantKeys, tenants):
            reads.append(("HMGET", keys.tally, *_FIELDS))
            reads.append(("XREVRANGE", keys.series, from_ms, "-", "COUNT", 1))
        found = await ask(redis, reads) if reads else []
        for values, entries in zip(found[::2], found[1::2], strict=True):
            now = Tally({name: int(value) for name, value in zip(_FIELDS, values, strict=True) if value})
            since = now - _before(entries, now)
            times, breaches = times + since.times(_TIMES), breaches + since.of("slo.breached")
    return Lately(times, breaches)


def _before(entries: Sequence[tuple[str, Sequence[str]]], now: Tally) -> Tally:
    """What a tenant had counted then: nothing, if it had no sample yet. What another version wrote cannot be
    read: then nothing is told until there is a newer one."""
    for name, flat in entries:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if fields.get("named") != NAMED:
            return now
        return Sample.parse(int(name.partition("-")[0]), fields["figures"]).tally
    return Tally()
