"""The seam between a model call and money: reserve the worst case, call, settle the real cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from chimera.agents.records import as_text
from chimera.errors import BudgetExceeded, NotFound, RefusalKind


@dataclass(frozen=True, slots=True)
class Called:
    """What the flight recorder has of a call beside its charge.

    Attributes:
        request, reply: see `chimera.telemetry.payloads.Payloads.of`; of a reply that never came None.
        tries: those before this one that failed: ``{"error": …, "sent": …}``, oldest first.
        error: why this one failed; "" when it did not.
    """

    request: Mapping[str, Any] | None = None
    reply: Mapping[str, Any] | None = None
    tries: tuple[Mapping[str, Any], ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one model call cost, and why: the ledger's line.

    Token counts are the provider's own. `input_tokens` includes `cached_tokens`; `output_tokens`
    includes `reasoning_tokens`. A call whose real usage will never be known (it timed out after it
    was sent) is charged at its hold, with its worst case as tokens and `estimated` set. A call that an
    earlier run paid for costs nothing: `kept` is set, and the tokens are those it was paid for then.
    """

    model: str
    input_tokens: int
    output_tokens: int
    cost_microusd: int
    price_version: str
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    provider_request_id: str = ""
    latency_ms: int = 0
    estimated: bool = False
    kept: bool = False
    called: Called | None = None
    """For the recorder: no part of the account."""

    def account(self) -> dict[str, Any]:
        """The ledger's line: all but `called`."""
        return {name: getattr(self, name) for name in _ACCOUNT}

    def told(self) -> str:
        """The call as the recorder has it, a JSON object: its account and what is known of it."""
        called = self.called or Called()
        more = {
            "request": called.request,
            "reply": called.reply,
            "tries": called.tries,
            "error": called.error,
        }
        return as_text(self.account() | {name: value for name, value in more.items() if value})


_ACCOUNT = tuple(one.name for one in fields(Charge) if one.name != "called")


@dataclass(frozen=True, slots=True)
class Keep:
    """A settled call's reply, to be found by a re-run of the same work.

    Attributes:
        call: names the call within the work.
        reply: as text; "" for one that could not be used: a re-run asks anew.
    """

    call: str
    reply: str


class Purse(Protocol):
    """Money as one attempt sees it: reserve → sent → settle.

    Each hold ends once: by `settle` or by `release`, or by itself when its time is over. Then it is
    charged if its call left, else given back.
    """

    async def reserve(self, *, amount_microusd: int, model: str, agent: str, ttl_s: float) -> str:
        """Hold money for one call.

        Args:
            amount_microusd: the call's worst case, at least 1.
            ttl_s: the hold outlives the call's timeout by this bound, seconds from now.
        Returns:
            the hold's id.
        Raises:
            BudgetExceeded: a limit refuses; nothing is held.
        """
        ...

    async def sent(self, hold_id: str) -> bool:
        """Say that a hold's call leaves now. False: the hold is over, and it must not leave."""
        ...

    async def settle(
        self, hold_id: str, *, cost_microusd: int, charge: Charge, keep: Keep | None = None
    ) -> None:
        """End a hold with what the call really cost, which is never refused, and keep its reply.

        Whoever is cancelled meanwhile is so afterwards: the hold is ended all the same. As with `release`.
        """
        ...

    async def release(self, hold_id: str) -> None:
        """End a hold whose call was never sent, or was refused unserved: nothing was spent."""
        ...

    async def find(self, call: str) -> str | None:
        """The reply that an earlier run of this work kept of a call (see `Keep`), or None."""
        ...


class LocalPurse:
    """A purse in memory for one agent with no fleet: strict and exact, gone with its process.

    Args:
        limit_microusd: never exceeded by settled + held at a grant; None sets no limit.
    """

    def __init__(self, limit_microusd: int | None = None) -> None:
        self.limit_microusd = limit_microusd
        self.charges: list[Charge] = []
        self._held: dict[str, int] = {}
        self._ids = itertools.count(1)

    @property
    def settled_microusd(self) -> int:
        """Spent so far."""
        return sum(charge.cost_microusd for charge in self.charges)

    @property
    def held_microusd(self) -> int:
        """Set aside for calls under way."""
        return sum(self._held.values())

    async def reserve(self, *, amount_microusd: int, model: str, agent: str, ttl_s: float) -> str:
        """See `Purse.reserve`."""
        settled, held = self.settled_microusd, self.held_microusd
        if self.limit_microusd is not None and settled + held + amount_microusd > self.limit_microusd:
            fits_later = settled + amount_microusd <= self.limit_microusd
            raise BudgetExceeded(
                RefusalKind.CONTENDED if fits_later else RefusalKind.EXHAUSTED,
                "run",
                self.limit_microusd,
                settled,
                held,
                amount_microusd,
            )
        hold_id = f"{agent}-{next(self._ids)}"
        self._held[hold_id] = amount_microusd
        return hold_id

    async def sent(self, hold_id: str) -> bool:
        """See `Purse.sent`."""
        return hold_id in self._held

    async def settle(
        self, hold_id: str, *, cost_microusd: int, charge: Charge, keep: Keep | None = None
    ) -> None:
        """See `Purse.settle`. Nothing is kept: there is no other run."""
        self._end(hold_id)
        self.charges.append(charge)

    async def release(self, hold_id: str) -> None:
        """See `Purse.release`."""
        self._end(hold_id)

    async def find(self, call: str) -> str | None:
        """See `Purse.find`."""
        return None

    def _end(self, hold_id: str) -> None:
        if self._held.pop(hold_id, None) is None:
            raise NotFound(f"there is no open hold {hold_id!r}: each hold is settled or released once")
