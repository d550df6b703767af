"""The outfitter: what each worker's process is given, of all that the hub has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from chimera.agents.secrets import Secrets
from chimera.runtime.outfit import LOGIN, Outfit
from chimera.runtime.secrets import MODEL_KEY
from chimera.settings import Settings, is_secret
from chimera.store.users import as_role

OF_WORKERS = LOGIN | {"model_api_key"}
"""The secret settings that a worker's process needs; no other reaches it."""
HUBS_OWN = frozenset(
    {
        "tenant_limits",
        "tenant_secrets_dir",
        "redis_users",
        "redis_generation",
        "spoke_tenant",
        "spoke_grace_s",
    }
    | {name for name in Settings.model_fields if name.startswith("mcp_")}
)
"""What is no secret, and none of a worker's business."""
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def outfit(settings: Settings, tenant: str, secrets: Mapping[str, str]) -> Outfit:
    """What a worker of this tenant is given: its own login to Redis, its own secrets, the common settings.

    A tenant's own model key takes the place of the fleet's.
    """
    chosen = as_role(settings, "worker", tenant)
    if own := secrets.get(MODEL_KEY):
        chosen = chosen.model_copy(update={"model_api_key": SecretStr(own)})
    return _outfit(chosen, tenant, OF_WORKERS, secrets)


def outfit_of_spare(settings: Settings) -> Outfit:
    """What it takes to wait for a tenant: a login that can do nothing else."""
    return _outfit(as_role(settings, "spare"), "", LOGIN, Secrets())


def outfit_of_nobody(settings: Settings) -> Outfit:
    """The common settings, without any login or secret."""
    return _outfit(settings, "", frozenset(), Secrets())


def _outfit(settings: Settings, tenant: str, kept: frozenset[str], secrets: Mapping[str, str]) -> Outfit:
    values: dict[str, Any] = {
        name: getattr(settings, name)
        for name, field in Settings.model_fields.items()
        if name not in HUBS_OWN
        and (name in kept if is_secret(field) else True)
        and (name in settings.model_fields_set or name in kept)
    }
    return Outfit(
        tenant=tenant,
        values={name: _plain(value) for name, value in values.items() if value is not None},
        secrets=dict(secrets),
        reads=_files_of(settings),
    )


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _files_of(settings: Settings) -> tuple[str, ...]:
    if settings.redis_url is None:
        return ()
    query = parse_qs(urlsplit(settings.redis_url.get_secret_value()).query)
    return tuple(path for name in TLS_FILES for path in query.get(name, []))
