"""The canary: asks again and again for a reservation that must be refused, the very way that all others go.

It has a root of its own in Redis, which no tenant can have, with a limit of 1 µ$, and asks for 2. Should that
be granted, limits do not hold: then every tenant's brake is frozen, and the governor grants nothing, without
even asking the script that failed, until a person lets go.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import structlog

from chimera.core.brake import Brake, BrakeState
from chimera.core.money import Window
from chimera.runtime.base import Base
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service
from chimera.store import keys
from chimera.store.brakes import BrakeStore
from chimera.store.ledger import Ledger
from chimera.store.requests import Requests, written
from chimera.store.scripts import OldTerm

log = structlog.get_logger(__name__)

LIMIT, AMOUNT = 1, 2
"""µ$."""
LIMITS = {str(Window.LIFETIME): LIMIT}
LEVEL = f"tenant/{Window.LIFETIME}"
"""The limit that must refuse it."""
ANSWER_S = 5.0
"""A governor that does not answer within this is away."""
ASK_AGAIN_S = 1.0
ASKER = "canary"
# The tenant alone pays: no task, and so no lease that a token would prove.
ASKED = {
    **{"do": "reserve", "from": ASKER, "task": "", "token": 0, "amount": AMOUNT},  # nosec B105 (a fence, no password)
    **{"ttl_s": ANSWER_S, "agent": "", "model": ""},
}
KEPT_ENTRIES = 100
"""Of the recorder under the canary's root: no sink reads it."""


class Trust:
    """Whether limits hold, as far as this process knows.

    Attributes:
        failure: the canary's failure that stands; "" for none.
    """

    def __init__(self, failure: str = "") -> None:
        self.failure = failure
        self._thawed: dict[str, str] = {}

    @classmethod
    async def known(cls, base: Base) -> Trust:
        """As it stands in the store: a governor that begins must not grant before it knows."""
        return cls((await BrakeStore(base.redis).canary()).failure)

    def of(self, tenant: str, brake: Brake) -> None:
        """A tenant's brake was looked at: a person may have thawed what this failure froze."""
        if brake.canary and brake.state is not BrakeState.FROZEN:
            self._thawed[tenant] = brake.canary
        else:
            self._thawed.pop(tenant, None)

    def withdrawn(self, tenant: str) -> bool:
        """Whether nothing may be granted to a tenant, whatever the scripts say."""
        return bool(self.failure) and tenant != keys.CANARY and self._thawed.get(tenant) != self.failure


class Canary(Service):
    """Asks for what must be refused."""

    name = "canary"

    def __init__(self, base: Base, elector: Elector, trust: Trust) -> None:
        super().__init__()
        self.sweep_s = base.settings.canary_s
        self._elector = elector
        self._trust = trust
        self._store = BrakeStore(base.redis)
        self._ledger = Ledger(base.redis, keys.CANARY)
        self._requests = Requests(base.redis, keys.CANARY)
        self._answers = Requests(base.blocking, keys.CANARY)

    def start(self) -> None:
        """Begin, unless the settings want none."""
        if self.sweep_s > 0:
            super().start()

    async def run_once(self) -> None:
        term = await self._elector.led()
        canary_id = uuid.uuid4().hex
        await self._ledger.set_limits(LIMITS, by=self.name)
        said, detail = await self._ask(canary_id)
        try:
            failure = await self._store.report_canary(said, detail, canary_id, term=term)
        except OldTerm:
            log.warning("canary.superseded", term=term)
            return
        await self._store.trim_canary(KEPT_ENTRIES)
        if said == "granted":
            self._trust.failure = failure
            log.error("canary.granted", canary=canary_id, detail=detail)
        elif said != "refused":
            log.warning("canary.unproven", said=said, detail=detail)

    async def _ask(self, canary_id: str) -> tuple[str, str]:
        """What came of one, in a word and in a sentence."""
        request = written(ASKED | {"id": canary_id})
        until = time.monotonic() + ANSWER_S
        while (left := until - time.monotonic()) > 0:
            # Again and again, as all who ask do: a signal may be lost. Under one id it is one reservation.
            await self._requests.send(ASKER, uuid.uuid4().hex, [request])
            for answer in await self._answers.answers(ASKER, timeout_s=min(left, ASK_AGAIN_S)):
                if answer["id"] == canary_id:
                    return await self._judged(canary_id, answer)
        return "silent", f"the governor gave no answer within {ANSWER_S:g} s"

    async def _judged(self, canary_id: str, answer: dict[str, Any]) -> tuple[str, str]:
        if answer["code"] == "granted":
            release = {"do": "settle", "hold": canary_id, "cost": None, "charge": "", "round": 0}
            await self._requests.send(
                ASKER, f"{canary_id} over", [written(release | {"call": "", "reply": ""})]
            )
            if await self._ledger.limits() != LIMITS:
                # A store that came back without its last writes: there was no limit to hold.
                return "odd", "its limit was lost on the way"
            return "granted", f"{AMOUNT} µ$ were granted under a limit of {LIMIT} µ$"
        if answer["code"] == "refused" and answer["fields"][1] == LEVEL:
            return "refused", ""
        return "odd", f"the answer was {answer['code']}, {answer.get('fields', '')}"[:300]
