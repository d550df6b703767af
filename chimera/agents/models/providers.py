"""Endpoints through pydantic-ai: the only file that knows the model library.

It speaks to the providers; its own retries are off. What it raises becomes `CallFailed`, which says
the two things money and patience depend on: was the call sent, is another try sensible.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from pydantic_ai import direct, exceptions
from pydantic_ai.messages import ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.providers import infer_provider_class
from pydantic_ai.settings import ModelSettings

from chimera.agents.models.endpoint import NEXT_STEP, Ask, CallFailed, Reply
from chimera.agents.models.prices import Tokens
from chimera.core import trace
from chimera.errors import ModelUnavailable


def open_provider(model: str, api_key: str) -> LibraryEndpoint | None:
    """The endpoint of `provider:name`, or None where the library knows no such provider.

    Args:
        api_key: empty takes the provider's own variable (OPENAI_API_KEY, …).
    Raises:
        ModelUnavailable: it lacks its key.
    """
    provider, _, name = model.partition(":")
    try:
        provider_class = infer_provider_class(provider)
    except ValueError:
        return None
    except ImportError as exc:
        raise ModelUnavailable(f"model {model!r} cannot be used ({exc}): {NEXT_STEP}") from exc

    # Every provider takes api_key; their common base class does not say so.
    def make(_name: str) -> Any:
        return provider_class(api_key=api_key) if api_key else provider_class()  # type: ignore[call-arg]  # (each provider has its own)

    try:
        library = infer_model(model, make)
    except (exceptions.UserError, ImportError) as exc:
        step = (
            NEXT_STEP
            if api_key
            else f"{NEXT_STEP}; the key is CHIMERA_MODEL_API_KEY, in a fleet no other counts"
        )
        raise ModelUnavailable(f"model {model!r} cannot be used ({exc}): {step}") from exc
    return LibraryEndpoint(library, name, provider, str(library.base_url or ""))


SPEAK_OPENAI = frozenset(
    {
        *(
            "openai",
            "openai-chat",
            "openai-responses",
            "openrouter",
            "deepseek",
            "together",
            "fireworks",
            "cerebras",
            "moonshotai",
        ),
        *("nebius", "ovhcloud", "sambanova", "vercel", "ollama", "vllm", "litellm"),
    }
)
"""Providers whose own address takes OpenAI's chat completions under a plain bearer key."""


def is_provider(name: str) -> bool:
    """Whether the library knows a provider of that name, usable here or not."""
    try:
        infer_provider_class(name)
    except ValueError:
        return False
    except ImportError:  # it knows it, and lacks its package
        return True
    return True


def compatible_address(provider: str, api_key: str) -> tuple[str, str] | None:
    """Where a provider takes chat completions, and the key to say there; None where it does not, or is none.

    Args:
        api_key: as `open_provider`.
    Raises:
        ModelUnavailable: it lacks its key.
    """
    if provider not in SPEAK_OPENAI:
        return None
    provider_class = infer_provider_class(provider)
    try:
        # Each takes api_key; their common base class does not say so.
        made: Any = provider_class(api_key=api_key) if api_key else provider_class()  # type: ignore[call-arg]  # (each provider has its own)
    except (exceptions.UserError, ImportError) as exc:
        raise ModelUnavailable(f"provider {provider!r} cannot be used ({exc}): {NEXT_STEP}") from exc
    return str(made.base_url), str(made.client.api_key)


class LibraryEndpoint:
    """An `Endpoint` through pydantic-ai."""

    def __init__(self, library: Model, name: str, provider: str, url: str) -> None:
        self.name, self.provider, self.url = name, provider, url
        self._library = library

    async def ask(self, ask: Ask) -> Reply:
        """See `Endpoint.ask`."""
        try:
            # The SDK's timeout counts each read; the whole call is bounded here.
            async with asyncio.timeout(ask.timeout_s):
                response = await direct.model_request(
                    self._library,
                    [ModelRequest(parts=self._parts(ask))],
                    model_settings=settings_of(ask),
                    model_request_parameters=self._parameters(ask),
                )
        except TimeoutError as exc:
            raise CallFailed(f"it did not answer within {ask.timeout_s:g} s", True, True) from exc
        except (exceptions.AgentRunError, exceptions.UserError) as exc:
            raise failure(exc) from exc
        return reply_of(response)

    async def close(self) -> None:
        """See `Endpoint.close`."""
        async with self._library:  # the library closes its connections at the end of its outermost context
            pass

    @property
    def _native(self) -> bool:
        return bool(self._library.profile.get("supports_json_schema_output", False))

    def _parts(self, ask: Ask) -> list[SystemPromptPart | UserPromptPart]:
        system = ask.system or ""
        if ask.schema is not None and not self._native:
            system = f"{system}\nAnswer with one JSON document of this JSON Schema: {json.dumps(ask.schema)}"
        head = [SystemPromptPart(system.strip())] if system else []
        return [*head, UserPromptPart(ask.prompt)]

    def _parameters(self, ask: Ask) -> ModelRequestParameters:
        if ask.schema is None or not self._native:
            return ModelRequestParameters()
        definition = OutputObjectDefinition(json_schema=dict(ask.schema), name="answer")
        return ModelRequestParameters(output_mode="native", output_object=definition)


def settings_of(ask: Ask) -> ModelSettings:
    """The library's settings for a request."""
    settings = ModelSettings(max_tokens=ask.max_tokens, timeout=ask.timeout_s, max_retries=0)
    if ask.temperature is not None:
        settings["temperature"] = ask.temperature
    if ask.seed is not None:
        settings["seed"] = ask.seed
    named = {"Idempotency-Key": ask.idempotency_key, trace.HEADER: ask.traceparent}
    if headers := {name: value for name, value in named.items() if value}:
        settings["extra_headers"] = headers
    return settings


def reply_of(response: ModelResponse) -> Reply:
    """The library's response in our words."""
    usage = response.usage
    return Reply(
        text="".join(part.content for part in response.parts if isinstance(part, TextPart)),
        tokens=Tokens(
            input=usage.input_tokens,
            output=usage.output_tokens,
            cached=usage.cache_read_tokens,
            cache_write=usage.cache_write_tokens,
            reasoning=int((usage.details or {}).get("reasoning_tokens", 0)),
        ),
        request_id=response.provider_response_id or "",
        truncated=response.finish_reason == "length",
    )


def failure(exc: Exception) -> CallFailed:
    """What a library's error means for money and patience.

    An HTTP refusal was not served and is not charged. A gateway's 408 and 504 tell nothing about
    the model behind it, and an answer that cannot be read was made: both count as sent.
    """
    if isinstance(exc, exceptions.ModelHTTPError):
        code = exc.status_code
        quota = isinstance(exc, exceptions.ModelQuotaExceededError)
        retryable = code in {408, 409, 425, 429} or code >= 500
        return CallFailed(
            f"it answered HTTP {code}{_said(exc.body)}",
            code in {408, 504},
            retryable and not quota,
            exc.retry_after,
        )
    if isinstance(exc, exceptions.ModelConnectionError):
        return CallFailed(f"it cannot be reached ({exc.message})", exc.phase not in {"pool", "connect"}, True)
    if isinstance(exc, exceptions.ModelAPIError):
        return CallFailed(f"the call failed ({exc.message})", True, True)
    if isinstance(exc, exceptions.UnexpectedModelBehavior):
        return CallFailed(f"it answered what cannot be read ({exc.message[:200]})", True, True)
    return CallFailed(f"the call cannot be made ({exc})", False, False)


def _said(body: object) -> str:
    message = body.get("message") if isinstance(body, Mapping) else body
    return f" ({str(message)[:200]})" if message else ""
