"""Requests to the governor and its answers, through Redis, so that a spoke may live anywhere.

A worker appends; the governor reads from the front, acts, answers, and only then removes what
it read: a governor that dies in between leaves the requests to the next one, and acting twice
on a request is harmless, for holds are idempotent. A request is ``{"do": …}`` with:

===========  ======================================================  =================================
reserve      id (the hold's), from, task (who pays), token, amount   granted; refused or lost, fields
             (µ$), ttl_s, agent, model
find         id, from, task, round, call                             kept, reply; absent
settle       hold, cost (None releases), charge, round, call, reply, none: it is done once it stands
             called
forget       task, round (a script's request, see lua/include/work)  none
===========  ======================================================  =================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from types import NoneType
from typing import Any, TypeAlias

import orjson
from redis.client import NEVER_DECODE

from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Scripts, under_term

ANSWERS_KEPT_S = 60
MOST_ANSWERS = 500
"""Taken at once."""

FIGURES = ("amount", "ttl_s")
MAX_FIGURE = 1e12
"""Of µ$ (a million dollars) or seconds: whatever is larger, or negative, is a fault."""

Request: TypeAlias = dict[str, Any]

NAMES = ("agent", "model")
MOST_NAME = 200
"""Characters of an agent's or a model's name."""

_ROUND = re.compile("[0-9]{1,18}")
_TEXT, _WHOLE = (str,), (int,)
SHAPES: dict[str, dict[str, tuple[type, ...]]] = {
    "reserve": {
        **{"id": _TEXT, "task": _TEXT, "token": _WHOLE, "amount": _WHOLE, "ttl_s": (int, float)},
        **{"from": _TEXT, "agent": _TEXT, "model": _TEXT},
    },
    "settle": {
        **{"hold": _TEXT, "cost": (int, float, NoneType), "charge": _TEXT, "round": _WHOLE},
        **{"call": _TEXT, "reply": _TEXT, "called": _TEXT},
    },
    "find": {"id": _TEXT, "task": _TEXT, "round": _WHOLE, "call": _TEXT, "from": _TEXT},
    "forget": {"task": _TEXT, "round": (int, str)},
}
"""What is asked of the governor, by `do`: fields and their types."""


def written(request: Request) -> bytes:
    """A request as it is sent.

    Raises:
        TypeError: it has a figure of more than 64 bits, which no governor would understand.
    """
    if type(request.get("cost")) in (int, NoneType) and abs(request.get("cost") or 0) <= MAX_FIGURE:
        return orjson.dumps(request)
    # What can be no cost goes as it is. The quicker way writes NaN as null, and that would release the hold.
    return json.dumps(request).encode()


def understood(text: str) -> Request | None:
    """A request as it was written; None when it is none that we know."""
    try:
        request = _read(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        return None
    if request["do"] == "reserve":
        request = {"agent": "", "model": "", **request}  # as an older version asks
    if request["do"] == "settle":
        request = {"called": "", **request}  # the same
    return dict(request) if _fits(request, SHAPES.get(request["do"], {})) else None


def _fits(request: Request, shape: dict[str, tuple[type, ...]]) -> bool:
    # By its very type: a truth value is an int to Python, and no figure.
    if not shape or any(type(request.get(name)) not in types for name, types in shape.items()):
        return False
    if request["do"] == "forget" and not _ROUND.fullmatch(str(request["round"])):
        return False
    # The cost of a settlement is the ledger's to judge: it knows what was held for it.
    figures = all(0 <= request[name] <= MAX_FIGURE for name in FIGURES if name in shape)
    return figures and all(len(request[name]) <= MOST_NAME for name in NAMES if name in shape)


def _read(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        request = json.loads(text)  # it knows NaN, which `written` may write
        # And halves of characters, which no store takes: a ValueError, too.
        json.dumps(request, ensure_ascii=False).encode()
        return request


class Requests:
    """One tenant's requests."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._keys = TenantKeys(tenant)

    async def send(self, asker: str, operation: str, requests: Sequence[bytes]) -> None:
        """Append an asker's requests (see `written`), once for an operation, and wake the governor."""
        await self._scripts.run("send_requests", [self._keys.root], asker, operation, *requests)

    async def sent(self, hold_ids: Sequence[str]) -> list[bool]:
        """Say that calls leave now. Per hold: False when it is over, and the call must not leave.

        From then on a hold that runs out is charged. It needs no governor.
        """
        return [bool(open_) for open_ in await self._scripts.run("send_holds", [self._keys.root], *hold_ids)]

    async def answers(self, asker: str, timeout_s: float) -> list[dict[str, Any]]:
        """The next answers to one asker; [] when the time passes. For a blocking client."""
        key = self._keys.of("answers", asker)
        with translated():
            popped = await self._redis.blmpop(timeout_s, 1, key, direction="LEFT", count=MOST_ANSWERS)
            return [orjson.loads(answer) for answer in popped[1]] if popped else []

    async def peek(self, most: int) -> list[str]:
        """Requests at the front (JSON), left in place. Bytes that are no text are replaced."""
        with translated():
            found = await self._redis.execute_command(
                "LRANGE", self._keys.requests, 0, most - 1, **{NEVER_DECODE: True}
            )
            return [bytes(text).decode(errors="replace") for text in found]

    async def answer(
        self, answers: Sequence[tuple[str, dict[str, Any]]], done: int, operation: str, *, term: int, by: str
    ) -> None:
        """Send ``(asker, answer)`` and remove the `done` requests at the front; once for an operation.

        Raises:
            OldTerm: a newer governor acts; nothing was removed.
        """
        under_term(
            await self._scripts.run(
                "answer_requests",
                [self._keys.root],
                term,
                by,
                operation,
                done,
                ANSWERS_KEPT_S,
                *(field for asker, answer in answers for field in (asker, orjson.dumps(answer))),
            )
        )
