"""Whether the model endpoint answers, as the dashboard shows it. Readiness does not hang on it."""

from __future__ import annotations

import asyncio
import ssl
import time
from functools import cache

import httpx

from chimera.core.views import Health
from chimera.serving.gateway.hub import Probe
from chimera.settings import Settings

MODEL = "model"
"""The part's name."""
ASKED_S = 10.0
"""It is asked so often at most, however many look."""
PATIENCE_S = 1.5


def reached(settings: Settings) -> Probe:
    """A probe of the endpoint that the settings name: well while it answers at all, with whatever status."""
    url = settings.model_url.rstrip("/")
    known = Health(ok=True, detail="")
    asked_at = float("-inf")

    async def probe() -> Health:
        nonlocal known, asked_at
        if not url:
            named = settings.model or "none"
            return Health(ok=True, detail=f"{named}: its provider's own endpoint is not asked")
        if time.monotonic() - asked_at >= ASKED_S:
            asked_at = time.monotonic()
            known = await _ask(url)
        return known

    return probe


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _ask(url: str) -> Health:
    verify = await asyncio.to_thread(_trusted)  # it reads many certificates, once
    try:
        async with httpx.AsyncClient(timeout=PATIENCE_S, verify=verify, trust_env=False) as client:
            await client.get(f"{url}/models")
    except httpx.HTTPError as exc:
        said = str(exc) or type(exc).__name__
        return Health(ok=False, detail=f"{url} does not answer ({said}): see CHIMERA_MODEL_URL")
    return Health(ok=True, detail=f"{url} answers")
