"""Who logs in to Redis: a user for each part of the hub, and one for each tenant's workers.

Passwords are derived, so nobody stores or sends them: whoever holds the master secret can compute each.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import SecretStr

from chimera.errors import ConfigurationError
from chimera.settings import Settings, is_secret
from chimera.store.connection import url

Role = Literal["gateway", "orchestrator", "judge", "governor", "dashboard", "spare", "worker"]
"""Every role but `worker` is the whole fleet's; a worker is one tenant's."""
ROLES: tuple[Role, ...] = get_args(Role)

PREFIX = "chimera."
"""Users whose names begin so are ours; no other is touched."""

KEEPS: dict[Role, frozenset[str]] = {
    "gateway": frozenset({"api_key", "model_api_key"}),
    "judge": frozenset({"model_api_key"}),
    "worker": frozenset({"model_api_key"}),
}
"""The secret settings that a role needs, beside its login."""


def user_of(role: Role, tenant: str = "") -> str:
    """The name of a role's user: ``chimera.judge``, ``chimera.worker.acme``."""
    return f"{PREFIX}{role}.{tenant}" if tenant else f"{PREFIX}{role}"


def password_of(secret: str, role: Role, tenant: str, generation: int) -> str:
    """The password of a user: 64 hexadecimal digits."""
    return hmac.digest(secret.encode(), f"{role}/{tenant}/{generation}".encode(), hashlib.sha256).hex()


def as_role(settings: Settings, role: Role, tenant: str = "") -> Settings:
    """Settings for a process that does one role's work, and no more than that.

    Under ``CHIMERA_REDIS_USERS=single`` they are the same. Under `roles` their `redis_url` carries the role's
    user and password, and no secret is in them that the role does not need: not the master secret above all.

    Args:
        tenant: whose worker it is; "" for every other role.
    Raises:
        ConfigurationError: no Redis is named, or there is no master secret.
        ValueError: a worker without a tenant, or another role with one.
    """
    if (role == "worker") != bool(tenant):
        raise ValueError(f"a worker is one tenant's, and only a worker: {role!r} of {tenant!r}")
    if settings.redis_users == "single":
        return settings
    password = password_of(_secret(settings), role, tenant, settings.redis_generation)
    login = SecretStr(logged_in(url(settings), user_of(role, tenant), password))
    kept = KEEPS.get(role, frozenset())
    dropped = {
        name: None
        for name, field in type(settings).model_fields.items()
        if is_secret(field) and name not in kept and getattr(settings, name) is not None
    }
    return settings.model_copy(update={**dropped, "redis_url": login})


def logged_in(address: str, user: str, password: str) -> str:
    """A Redis URL with another login, in place of the one it may have."""
    parts = urlsplit(address)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in {"username", "password"}]
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{password}@{host}", query=urlencode(query)).geturl()


def _secret(settings: Settings) -> str:
    if settings.redis_secret is None:
        raise ConfigurationError(
            "CHIMERA_REDIS_USERS is roles, and there is no master secret to derive their passwords from: "
            "set CHIMERA_REDIS_SECRET (or CHIMERA_REDIS_SECRET_FILE) to at least 32 random characters, for "
            "example to what `openssl rand -hex 32` prints"
        )
    return settings.redis_secret.get_secret_value()
