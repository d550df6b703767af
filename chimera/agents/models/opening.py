"""Which endpoint a model's name means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera.agents.models.endpoint import Endpoint
from chimera.errors import ModelUnavailable

if TYPE_CHECKING:  # its libraries take long to import
    from chimera.agents.models.compatible import CompatibleEndpoint


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


def open_compatible(model: str, url: str, api_key: str, *, configured: str = "") -> CompatibleEndpoint:
    """The endpoint of a model whose calls can be forwarded as they are: it takes OpenAI's chat completions.

    Args:
        model, url, api_key: as `open_endpoint`.
        configured: the model that `api_key` is meant for (CHIMERA_MODEL): another provider does not get to
            see that key, and takes its own from its own variable.
    Raises:
        ModelUnavailable: there is no such endpoint, it takes no such calls, or it lacks its key.
    """
    from chimera.agents.models.compatible import CompatibleEndpoint  # noqa: PLC0415 (as are its libraries)

    provider, meant_for = provider_of(model), provider_of(configured)
    if provider:
        from chimera.agents.models.providers import compatible_address  # noqa: PLC0415 (it takes seconds)

        found = compatible_address(provider, api_key if provider == meant_for else "")
        if found is None:
            raise ModelUnavailable(
                f"model {model!r}: {provider} takes no OpenAI chat completions under a plain key; agents can "
                "call it through `ctx.model`, others through a proxy that CHIMERA_MODEL_URL names"
            )
        return CompatibleEndpoint(model.partition(":")[2], *found, provider)
    if not url:
        raise ModelUnavailable(
            f"model {model!r} has no endpoint: set CHIMERA_MODEL_URL to an OpenAI-compatible one"
        )
    return CompatibleEndpoint(model, url, "" if meant_for else api_key)


def provider_of(model: str) -> str:
    """The provider in a model's name; "" where it names none, as `qwen2.5:7b` does not."""
    provider, colon, _ = model.partition(":")
    if not colon:
        return ""
    from chimera.agents.models.providers import is_provider  # noqa: PLC0415 (it takes seconds)

    return provider if is_provider(provider) else ""
