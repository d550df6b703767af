"""Which of its secrets a node hands on to its processes: how they log in to Redis, above all."""

from __future__ import annotations

from pydantic import SecretStr

from chimera.settings import Settings
from chimera.store.connection import url
from chimera.store.users import KEEPS, as_role, without_login

HUBS = frozenset({"api_key", "model_api_key", "mcp_headers"})
"""What the parts of the hub need between them, beside a login."""
JUDGES = KEEPS["judge"]


def without_operator(settings: Settings) -> tuple[Settings, frozenset[str]]:
    """Settings without the operator's login where each role has its own; and the names of what a login takes.

    Raises:
        ConfigurationError: no Redis is named, or there is no master secret.
    """
    address = url(settings)
    as_role(settings, "judge")  # there is what a role's login is derived from
    if settings.redis_users == "single":
        return settings, frozenset({"redis_url", "redis_password"})
    bare = SecretStr(without_login(address))
    own = settings.model_copy(update={"redis_url": bare, "redis_password": None})  # nosec B105 : it is none
    return own, frozenset({"redis_url", "redis_secret"})
