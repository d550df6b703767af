"""Endpoints by tenant, in a process that serves them all: a call of one's goes out under one's own key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pydantic import SecretStr

from chimera.agents.models.client import Models
from chimera.agents.models.endpoint import Endpoint
from chimera.runtime.secrets import MODEL_KEY, TenantSecrets
from chimera.settings import Settings
from chimera.telemetry.redaction import conceal


class TenantModels:
    """The models of the fleet, and of each tenant with a key of its own.

    Close it (`aclose`) on the loop it was used on.
    """

    def __init__(self, settings: Settings, open_: Callable[[str, str, str], Endpoint] | None = None) -> None:
        self._settings, self._open = settings, open_
        self._common = Models(settings, open_)
        self._secrets = TenantSecrets(settings.tenant_secrets_dir)
        self._own: dict[str, Models] = {}

    async def of(self, tenant: str) -> Models:
        """Where this tenant's calls go; a key that was changed is used within seconds.

        Raises:
            ConfigurationError: its secrets cannot be used. Nobody else's key stands in.
        """
        if self._settings.tenant_secrets_dir is None:
            return self._common
        key = (await asyncio.to_thread(self._secrets.of, tenant)).get(MODEL_KEY)
        if not key:
            return self._common
        conceal(key)
        if tenant not in self._own:
            self._own[tenant] = Models(self._settings, self._open)
        self._own[tenant].use_key(SecretStr(key))
        return self._own[tenant]

    async def aclose(self) -> None:
        """Close every connection."""
        own, self._own = self._own, {}
        for models in (self._common, *own.values()):
            await models.aclose()
