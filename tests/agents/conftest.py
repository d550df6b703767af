"""One embedded model for the session, and settings that read no environment of the machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from chimera import settings as settings_module
from chimera.agents.models import process
from chimera.agents.models.client import Models
from chimera.agents.models.process import EmbeddedModel
from chimera.settings import Settings

API_KEY = "a-key-for-tests"


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedModel]:
    """The real embedded model, behind a key."""
    with process.start(
        environ={"CHIMERA_MODEL_API_KEY": API_KEY, "CHIMERA_EMBEDDED_MODEL_THREADS": "1"}
    ) as running:
        yield running


@pytest.fixture
def make_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings of the given values over an empty environment."""
    for name in [name for name in os.environ if name.startswith("CHIMERA_")]:
        monkeypatch.delenv(name)
    return settings_module.load


@pytest.fixture
def embedded_settings(embedded: EmbeddedModel, make_settings: Callable[..., Settings]) -> Settings:
    """Settings that name the session's embedded model."""
    return make_settings(model=embedded.model, model_url=embedded.url, model_api_key=API_KEY)


@pytest_asyncio.fixture
async def open_models() -> AsyncIterator[Callable[[Settings], Models]]:
    """Makes `Models`, and closes them at the test's end."""
    opened: list[Models] = []

    def make(settings: Settings) -> Models:
        opened.append(Models(settings))
        return opened[-1]

    yield make
    for models in opened:
        await models.aclose()
