"""The sampler: every few seconds the leader notes how each tenant stands, for charts of the last hour.

A tenant of which nothing changed is passed over. When something changes again, its last state is noted once
more just before: so that what happened then is not spread over the time in which nothing did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import structlog

from chimera.core.series import EVERY_S, Sample
from chimera.runtime.base import Base
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service
from chimera.store.scripts import OldTerm
from chimera.store.series import add, look, newest

log = structlog.get_logger(__name__)


Tell: TypeAlias = Callable[[Mapping[str, Sample]], None]
"""Hears of each look at all tenants; of none once this replica leads no more."""


class Sampler(Service):
    """The leader's: every tenant at once, in a constant number of round trips.

    Args:
        tell: hears what was seen, so that nobody else need look.
    """

    name = "sampler"
    sweep_s = EVERY_S

    def __init__(self, base: Base, elector: Elector, tell: Tell = lambda _: None) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._tell = tell
        self._term: int | None = None
        self._written: dict[str, Sample] = {}
        """What was written last of each tenant."""
        self._looked_at_ms = 0

    async def run_once(self) -> None:
        term = self._elector.term
        if term != self._term:
            # What another leader wrote meanwhile is not known here.
            self._written, self._looked_at_ms, self._term = {}, 0, term
            self._tell({})
        if term is None:
            return
        try:
            await self.sample(term)
        except OldTerm:
            log.warning("sampler.superseded", term=term)

    async def sample(self, term: int) -> int:
        """Look at every tenant once; how many samples were written.

        Raises:
            OldTerm: a newer leader acts.
        """
        redis, names = self._base.redis, await self._base.tenants.names()
        unknown = [tenant for tenant in names if tenant not in self._written]
        known = {
            **{tenant: one for tenant, one in (await newest(redis, unknown)).items() if one is not None},
            **{tenant: one for tenant, one in self._written.items() if tenant in names},
        }
        now = await look(redis, names)
        samples = {
            tenant: self._changed(known.get(tenant), one)
            for tenant, one in now.items()
            if tenant not in known or _figures(known[tenant]) != _figures(one)
        }
        await add(redis, samples, term=term)
        self._tell(now)
        self._written = {**known, **{tenant: several[-1] for tenant, several in samples.items()}}
        self._looked_at_ms = max((one.at_ms for one in now.values()), default=self._looked_at_ms)
        return sum(map(len, samples.values()))

    def _changed(self, before: Sample | None, now: Sample) -> list[Sample]:
        if before is None or not before.at_ms < self._looked_at_ms < now.at_ms:
            return [now]
        return [replace(before, at_ms=self._looked_at_ms), now]


def _figures(sample: Sample) -> object:
    return sample.tally, sample.gauges
