"""A tenant: its name, and the quota that bounds its share of the fleet.

Money has limits of its own (`chimera.core.money`). A quota bounds the rest: how many agents work at once,
how much unfinished work stands in Redis, how fast the API is asked, and what share of scarce worker places
the tenant gets.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field

from chimera.errors import InvalidRequest

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,38}")
"""What a tenant may be called: it stands in keys, metrics and names of workers."""


class Quota(BaseModel):
    """What a tenant may have at most. 0 is no bound; each is the tenant's own, or the fleet's default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_agents: int = Field(0, ge=0, le=10_000_000)
    """Tasks under a worker's lease at once. Above 1, the last of these places is for high priority alone."""
    max_ready: int = Field(0, ge=0, le=100_000_000)
    """Unfinished tasks in Redis (BLOCKED, READY, PENDING, REVIEW). At this many nothing more is planned,
    beside a little of each mission, and new missions are refused. Inputs not yet planned wait in the blob
    store and do not count, so a mission may have far more."""
    requests_per_s: float = Field(0, ge=0, le=1_000_000)
    """Requests to the API a second, over all gateways."""
    burst: int = Field(0, ge=0, le=1_000_000)
    """Requests at once before that rate binds; 0: as many as one second brings, at least one."""
    weight: int = Field(1, ge=1, le=1_000)
    """Its share of worker places where they are scarce, against the other tenants' weights."""
    spoke: bool = False
    """No bound: its workers are kept by a spoke, on a Ray cluster of its own (`chimera spoke`), and the hub
    starts none for it."""


FIELDS = tuple(Quota.model_fields)
"""The fields of a quota by name."""


def check_name(name: str) -> str:
    """The name, if a tenant may be called so.

    Raises:
        InvalidRequest: it may not.
    """
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is no name for a tenant: use up to 39 lower-case letters, digits and hyphens, "
            "beginning with a letter or digit"
        )
    return name
