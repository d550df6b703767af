"""What was found good at submit: missions that ask the same again are not checked again.

Most missions differ in goal and inputs alone, while to check their options and policies takes a thread and,
for a schema, milliseconds. The verdict on these rests on themselves and the registered agents alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from chimera.core.mission import MissionBase

MOST = 1_024
"""Verdicts kept, the last used ones: a digest of 32 bytes each."""
ASKED = {"agent", "options", "plan", "judge"}
"""The members of a mission that are checked against agents and judges."""

Agents = Mapping[str, Mapping[str, Any]]


class FoundGood:
    """Digests of what was checked without a problem, under one catalogue of agents."""

    def __init__(self) -> None:
        self._agents: Agents | None = None
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    @staticmethod
    def digest(spec: MissionBase) -> bytes:
        """Of all in a mission that is checked."""
        return sha256(spec.model_dump_json(include=ASKED).encode()).digest()

    def has(self, asked: bytes, agents: Agents) -> bool:
        """Whether it was found good under these very agents."""
        if agents is not self._agents or asked not in self._digests:
            return False
        self._digests.move_to_end(asked)
        return True

    def add(self, asked: bytes, agents: Agents) -> None:
        """It was checked under these agents, and is good."""
        if agents is not self._agents:
            self._agents = agents
            self._digests.clear()
        self._digests[asked] = None
        while len(self._digests) > MOST:
            self._digests.popitem(last=False)
