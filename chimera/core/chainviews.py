"""What following a flight recorder's hash chain shows, and the marks that are noted of it."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field

from chimera.errors import InvalidRequest

MOST_WRONG = 20
"""Faults that are told; the first is what matters."""

Place = tuple[int, int]
"""Epoch and number of an event."""
_ANCHOR = re.compile(r"(\d{1,9})/(\d{1,19})")
_HASH = re.compile(r"[0-9a-f]{64}")


class Mark(BaseModel):
    """A place in the chain, to be noted elsewhere."""

    model_config = ConfigDict(frozen=True)

    position: str = Field(description="`EPOCH/SEQ` of an event.")
    hash: str = Field(description="The chain's hash behind it, hex.")

    @property
    def place(self) -> Place:
        """Epoch and number."""
        epoch, _, seq = self.position.partition("/")
        return int(epoch), int(seq)

    @classmethod
    def parse(cls, position: str, hashed: str) -> Mark:
        """From what somebody noted.

        Raises:
            InvalidRequest: it is none.
        """
        if not _ANCHOR.fullmatch(position) or not _HASH.fullmatch(hashed):
            raise InvalidRequest(
                f"{position[:40]!r} {hashed[:70]!r} is no anchor: take EPOCH/SEQ and the hash, 64 hex "
                "digits, from `chimera recorder verify`"
            )
        return cls(position=position, hash=hashed)


class ChainView(BaseModel):
    """What following a tenant's chain showed."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    events: int = Field(description="All events, of which `archived` lie in the blob store.")
    archived: int
    segments: int
    epochs: int
    compared: int = Field(description="Archived events that the stream still has, compared line by line.")
    anchor: Mark | None = Field(
        description="The archive's end, to be noted elsewhere (`--from`). None: nothing is archived."
    )
    head: Mark | None = Field(
        description="The newest event, chained as it will be once it is archived; None without any."
    )
    since: Mark | None = Field(None, description="The anchor that was asked for.")
    wrong: tuple[str, ...] = Field(description=f"In words, the first place first; at most {MOST_WRONG}.")

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong
