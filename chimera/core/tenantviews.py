"""The wire, of tenants and keys: what the API answers about who may use the fleet."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from chimera.core.scope import Scope
from chimera.core.views import View


class TenantView(View):
    """A tenant, and what it may have at most: each figure its own or the fleet's default, 0 for no bound."""

    tenant: str
    max_agents: int
    max_ready: int
    requests_per_s: float
    burst: int
    weight: int
    spoke: bool = Field(False, description="Its workers are kept by its spoke, on a cluster of its own.")
    suspended_at: datetime | None = Field(None, description="Since when it is suspended; null: it is not.")
    suspended_reason: str = ""


class KeyView(View):
    """What is known of a key. The key itself is kept nowhere."""

    key_id: str
    tenant: str = Field(description="Whose it is; `*`: the whole fleet's.")
    name: str = ""
    scopes: tuple[Scope, ...]
    created_at: datetime | None = Field(None, description="Null for keys from before this was kept.")
    expires_at: datetime | None = Field(None, description="When it ends, or ended; null: never.")
    used_at: datetime | None = Field(None, description="Last used, to within a minute; null: not yet.")
    requests_per_s: float = Field(0, description="Its own rate, beside the tenant's; 0: none.")


class NewKeyView(KeyView):
    """A key that was just made. This is the only time that it is shown."""

    api_key: str


class NewTenantView(View):
    """A tenant, and the key that was made with it."""

    tenant: TenantView
    made: bool = Field(description="False: there was one of that name, and nothing was changed.")
    key: NewKeyView | None = Field(None, description="Shown this once; null where nothing was made.")


class RevokedView(View):
    """A key that was taken away."""

    key_id: str
    within_s: float = Field(description="Every gateway refuses it within this.")


class RemovedView(View):
    """A tenant that was removed."""

    tenant: str
    purged: bool = Field(False, description="What it left is deleted, but for its recorder.")


class LimitsView(View):
    """Limits of money."""

    tenant: str = Field(description="Whose; `*`: the whole fleet's.")
    limits_microusd: dict[str, int] = Field(
        description="By what they limit: `day`, `agent/NAME/day`, `model/NAME/hour` …; all else is free."
    )
