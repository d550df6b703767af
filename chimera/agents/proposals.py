"""What one attempt proposes: collected from any thread, handed in with its result or dropped with it."""

from __future__ import annotations

import threading
from functools import lru_cache

from pydantic_core import PydanticSerializationError

from chimera.core.action import Action, Allowed, parse_action
from chimera.errors import Conflict, PayloadTooLarge, Rejected

_allowed = lru_cache(maxsize=8)(Allowed.parse)


class Proposals:
    """An attempt's actions.

    Args:
        hosts: CHIMERA_ACTION_HOSTS; "" allows none.
        most: actions of one result.
        most_bytes: one action, bytes of JSON.
    """

    def __init__(self, hosts: str = "", most: int = 16, most_bytes: int = 65_536) -> None:
        self._allowed = _allowed(hosts)
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        self._taken: list[str] = []
        self._closed = False

    def add(self, action: Action) -> int:
        """Take one as it is now; changing its body later changes nothing. Returns its index, from 0.

        Raises:
            Rejected: its host is not allowed, there are too many, or it is no valid action.
            PayloadTooLarge: it is too large.
            Conflict: the attempt is over.
        """
        try:
            text = action.model_dump_json()
            kept = parse_action(text)
        except (PydanticSerializationError, ValueError) as exc:
            raise Rejected(f"the action cannot be kept as JSON: {exc}") from exc
        if refusal := self._allowed.refusal(kept):
            raise Rejected(refusal)
        if (size := len(text.encode())) > self._most_bytes:
            raise PayloadTooLarge("the action", size, self._most_bytes, "CHIMERA_MAX_ACTION_BYTES")
        with self._lock:
            if self._closed:
                raise Conflict("the attempt is over: what it proposes now is not carried out")
            if len(self._taken) >= self._most:
                raise Rejected(
                    f"a result may have at most {self._most} actions: bring some together, "
                    "or raise CHIMERA_MAX_ACTIONS"
                )
            self._taken.append(text)
            return len(self._taken) - 1

    def close(self) -> tuple[str, ...]:
        """Take no more. Returns what was proposed, each as JSON, in order; twice is fine."""
        with self._lock:
            self._closed = True
            return tuple(self._taken)
