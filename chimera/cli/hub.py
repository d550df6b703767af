"""Where the hub is, and a client for it. Flags win over the environment, it over the local fleet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from chimera.client import Client
    from chimera.serving.local.state import Fleet
    from chimera.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Hub:
    """A hub's address and the key to use there ("" for none)."""

    url: str
    api_key: str


def locate(url: str, api_key_file: str) -> Hub:
    """Find the hub.

    Args:
        url, api_key_file: the command's flags; "" when not given.
    Raises:
        ConfigurationError: the environment or the key's file is wrong.
    """
    from chimera import settings

    environment = settings.load()
    fleet = local_fleet(environment)
    named = url or (environment.url if "url" in environment.model_fields_set else "")
    chosen = (named or (fleet.url if fleet else environment.address)).rstrip("/")
    if api_key_file:
        return Hub(chosen, _read(Path(api_key_file)))
    if environment.api_key is not None:
        return Hub(chosen, environment.api_key.get_secret_value())
    # The local key goes to the local fleet and nowhere else.
    return Hub(chosen, fleet.api_key() if fleet and fleet.url == chosen else "")


def is_named(url: str) -> bool:
    """Whether there is a hub to ask: by flag, by the environment, or in the state directory."""
    from chimera import settings

    environment = settings.load()
    return bool(url) or "url" in environment.model_fields_set or local_fleet(environment) is not None


def local_fleet(settings: Settings) -> Fleet | None:
    """The fleet that runs in the state directory, if one does: whole, or short of a part that is restarted.

    Of the second the hub itself says what it lacks. To look past it would be to ask its hub without its key.
    """
    from chimera.serving.local.state import StateDir

    fleet = StateDir(settings.state_dir).read()
    return fleet if fleet and fleet.supervisor.is_alive() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"--api-key-file names {path}, which cannot be read ({exc}): check the path"
        ) from exc


def ask(url: str, api_key_file: str, question: Callable[[Client], Awaitable[T]]) -> T:
    """Open a client, ask one thing, close it."""

    async def conversation() -> T:
        async with connect(locate(url, api_key_file)) as client:
            return await question(client)

    return run(conversation())


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`; asyncio is imported only by commands that use it."""
    import asyncio

    return asyncio.run(main)


def connect(hub: Hub) -> Client:
    """A client for the hub."""
    from chimera.client import Client

    return Client(hub.url, hub.api_key)
