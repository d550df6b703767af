"""Which endpoint a model's name means."""

from __future__ import annotations

from chimera.agents.models.endpoint import Endpoint
from chimera.errors import ModelUnavailable


def open_endpoint(model: str, url: str, api_key: str) -> Endpoint:
    """The endpoint of a model. What it takes is imported here: seconds for a provider.

    Args:
        model: `provider:name`, or a name that is served at `url`.
        url: an OpenAI-compatible endpoint; a known `provider:` wins over it.
        api_key: empty takes the provider's own variable, or no key.
    Raises:
        ModelUnavailable: there is no such endpoint, or it lacks its key.
    """
    if ":" in model:
        from chimera.agents.models.providers import open_provider  # noqa: PLC0415 (it takes seconds)

        if (known := open_provider(model, api_key)) is not None:
            return known
    if not url:
        raise ModelUnavailable(
            f"model {model!r} has no endpoint: write provider:name (for example openai:gpt-5-mini) in "
            "CHIMERA_MODEL, or set CHIMERA_MODEL_URL to an OpenAI-compatible endpoint"
        )
    from chimera.agents.models.compatible import CompatibleEndpoint  # noqa: PLC0415 (as are its libraries)

    return CompatibleEndpoint(model, url, api_key)
