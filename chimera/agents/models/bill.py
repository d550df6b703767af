"""A bill: the money of one try of one paid call, from its hold to what it cost.

    reserve → sent → (the call) → settle, or release where it was never sent

Whoever makes paid calls opens one for each try: an agent's model client, and the gateway for an agent that
speaks to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from chimera.agents.models.endpoint import CallFailed
from chimera.agents.models.prices import Price, Tokens
from chimera.agents.purse import Called, Charge, Keep, Purse


@dataclass(slots=True, kw_only=True)
class Bill:
    """One try's money. Open it with `Bill.open`; end it once, by `settle` or `release`.

    Attributes:
        bound: the most tokens that the try may take.
        worst_microusd: what these cost: the hold's amount.
        hold: the hold's id.
    """

    purse: Purse
    model: str
    price: Price
    bound: Tokens
    worst_microusd: int
    hold: str
    began: float = field(default_factory=time.perf_counter)

    @classmethod
    async def open(
        cls, purse: Purse, *, model: str, price: Price, bound: Tokens, agent: str, ttl_s: float
    ) -> Bill:
        """Reserve the worst case, and say that the try leaves: from here on it counts as sent.

        Args:
            ttl_s: the hold's life, beyond the try's own timeout.
        Raises:
            BudgetExceeded: a limit refuses; nothing is held.
            CallFailed: the hold ran out before the try left.
        """
        worst = price.worst_case_microusd(bound.input, bound.output)
        hold = await purse.reserve(amount_microusd=worst, model=model, agent=agent, ttl_s=ttl_s)
        try:
            may_leave = await purse.sent(hold)
        except BaseException:  # nobody knows whether it may: so it does not
            await purse.release(hold)
            raise
        if not may_leave:
            raise CallFailed("its hold ran out before it was sent", sent=False, retryable=True)
        return cls(purse=purse, model=model, price=price, bound=bound, worst_microusd=worst, hold=hold)

    def charge(self, tokens: Tokens | None, request_id: str = "", called: Called | None = None) -> Charge:
        """What the try cost.

        Args:
            tokens: as the endpoint counted them. None, or a count that can be none, costs the worst case:
                who reports no usage is charged what was held, not nothing.
            called: what the recorder is to have of it.
        """
        known = tokens is not None and tokens.believable
        taken = tokens if known and tokens is not None else self.bound
        return Charge(
            model=self.model,
            input_tokens=taken.input,
            output_tokens=taken.output,
            cached_tokens=taken.cached,
            reasoning_tokens=taken.reasoning,
            cost_microusd=self.price.cost_microusd(taken) if known else self.worst_microusd,
            price_version=self.price.version,
            provider_request_id=request_id,
            latency_ms=round((time.perf_counter() - self.began) * 1000),
            estimated=not known,
            called=called,
        )

    async def settle(self, charge: Charge, keep: Keep | None = None) -> None:
        """End the hold with what the try cost, and keep its reply where it has a name."""
        keep = keep if keep and keep.call else None
        await self.purse.settle(self.hold, cost_microusd=charge.cost_microusd, charge=charge, keep=keep)

    async def release(self) -> None:
        """End the hold: nothing was sent, or nothing served."""
        await self.purse.release(self.hold)
