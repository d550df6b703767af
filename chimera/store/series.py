"""Every tenant's last hour in Redis: samples, written by the hub's leader, read for many tenants at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chimera.core.series import EVERY_S, KEPT_S, NAMED, Sample
from chimera.store.connection import Redis, ask, translated
from chimera.store.gauges import gauges
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Scripts, under_term
from chimera.store.tallies import tallies

MOST = round(KEPT_S / EVERY_S)
"""Samples kept of one tenant."""


async def series(
    redis: Redis, tenants: Sequence[str], *, since_s: float, now: float
) -> dict[str, list[Sample]]:
    """Each tenant's samples, oldest first, in one round trip.

    A tenant of which nothing changed has none for that time: what its last sample says, also one from before
    `since_s`, still stands.

    Args:
        since_s: so far back from `now`, at most `KEPT_S`.
        now: Unix seconds by the store's clock.
    """
    if not tenants:
        return {}
    since_ms = max(0, round(1000 * (now - since_s)))
    with translated():
        found = await ask(redis, [("XRANGE", TenantKeys(tenant).series, since_ms, "+") for tenant in tenants])
    return {tenant: _samples(entries) for tenant, entries in zip(tenants, found, strict=True)}


async def newest(redis: Redis, tenants: Sequence[str]) -> dict[str, Sample | None]:
    """Each tenant's last sample, in one round trip."""
    if not tenants:
        return {}
    with translated():
        found = await ask(
            redis, [("XREVRANGE", TenantKeys(tenant).series, "+", "-", "COUNT", 1) for tenant in tenants]
        )
    return {
        tenant: next(iter(_samples(entries)), None) for tenant, entries in zip(tenants, found, strict=True)
    }


async def look(redis: Redis, tenants: Sequence[str]) -> dict[str, Sample]:
    """A sample of each tenant, taken now; in a constant number of round trips."""
    with translated():
        seconds, micros = await redis.time()
    counted, stands = await tallies(redis, tenants), await gauges(redis, tenants)
    at_ms = int(seconds) * 1000 + int(micros) // 1000
    return {tenant: Sample(at_ms, counted[tenant], stands[tenant]) for tenant in tenants}


async def add(redis: Redis, samples: Mapping[str, Sequence[Sample]], *, term: int) -> None:
    """Write samples, in one round trip; one that is older than the newest there is passed over.

    Args:
        samples: by tenant, oldest first.
    Raises:
        OldTerm: a newer leader acts.
    """
    calls: list[tuple[Sequence[str], Sequence[str | int]]] = [
        ([TenantKeys(tenant).root], [term, one.at_ms, MOST, NAMED, one.text()])
        for tenant, several in samples.items()
        for one in several
    ]
    for answer in await Scripts(redis).run_each("add_sample", calls) if calls else ():
        if isinstance(answer, Exception):
            raise answer
        under_term(answer)


def _samples(entries: Sequence[tuple[str, Sequence[str]]]) -> list[Sample]:
    told = []
    for name, flat in entries:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if fields.get("named") == NAMED:
            told.append(Sample.parse(int(name.partition("-")[0]), fields["figures"]))
    return told
