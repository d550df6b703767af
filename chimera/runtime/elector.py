"""The elector: keeps or takes the lead of a role, and knows the term."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import structlog

from chimera.runtime.service import Service

log = structlog.get_logger(__name__)

LEAD_S = 3.0
"""A lead lasts this long unless kept; another takes over within it."""


class Ballot(Protocol):
    """What an elector asks: a role's `Election`, or a tenant's `SwarmElection`."""

    role: str

    async def lead(self, replica: str, *, ttl_s: float) -> int | None:
        """Take or keep the lead. Returns the term, or None without it."""
        ...

    async def resign(self, replica: str) -> None:
        """Give up the lead, if it is ours."""
        ...

    async def leader(self) -> str | None:
        """Who leads now."""
        ...


class Elector(Service):
    """`term` is the lead's term, or None while another leads or we cannot be sure.

    Our own clock only shortens our trust: after `LEAD_S` without an answer we lead no more.
    """

    sweep_s = LEAD_S / 4

    def __init__(self, election: Ballot, replica: str) -> None:
        super().__init__()
        self.name = f"elector of {election.role}"
        self.election = election
        self.replica = replica
        self._term: int | None = None
        self._until = 0.0
        self._led = asyncio.Event()

    @property
    def term(self) -> int | None:
        """The term we lead under, or None."""
        return self._term if time.monotonic() < self._until else None

    async def run_once(self) -> None:
        asked_at = time.monotonic()
        term = await self.election.lead(self.replica, ttl_s=LEAD_S)
        if term is not None and term != self._term:
            log.info("leader.elected", role=self.election.role, replica=self.replica, term=term)
        self._term = term
        if term is None:
            self._led.clear()
        else:
            self._until = asked_at + LEAD_S
            self._led.set()

    async def led(self) -> int:
        """Wait until we lead; the term."""
        while (term := self.term) is None:
            self._led.clear()
            await self._led.wait()
        return term

    async def stop(self) -> None:
        await super().stop()
        if self.term is not None:
            await self.election.resign(self.replica)
        self._term = None
