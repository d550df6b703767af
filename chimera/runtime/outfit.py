"""An outfit: all that a worker's process is given, and it has nothing else.

The hub makes it (`runtime.outfitter`), of its own settings and the tenant's secrets. It travels as an
argument of one call from the fleet controller to that process: not in an environment, an option or a name,
which others can list.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from chimera.settings import GivenSettings, Settings

LOGIN = frozenset({"redis_url", "redis_password"})


class Outfit(BaseModel):
    """See the module.

    Attributes:
        tenant: whose; "" for a spare that waits.
        values: settings by field, as an environment would have them, secrets included.
        secrets: the tenant's.
        reads: files that the process must be able to read: those which the Redis URL names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tenant: str
    values: dict[str, str]
    secrets: dict[str, str] = {}
    reads: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """As a process has them that has no other: its environment adds nothing."""
        given: dict[str, Any] = dict(self.values)
        return GivenSettings(**given)

    def __repr__(self) -> str:
        return f"<outfit of {self.tenant or 'a spare'}>"

    __str__ = __repr__


def bare(waiting: Outfit) -> Outfit:
    """A spare's without its login: what a process of agents may have before it is anybody's."""
    return waiting.model_copy(
        update={"values": {name: value for name, value in waiting.values.items() if name not in LOGIN}}
    )
