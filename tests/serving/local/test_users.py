"""How a local fleet's parts are told to log in to Redis, and what they are not told."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from chimera.serving.local import environment
from chimera.serving.local.state import StateDir
from chimera.settings import Settings
from chimera.store.users import keeps_users

ADDRESS = "redis://127.0.0.1:7000/0"
WITH_LOGIN = "redis://:the-operators@127.0.0.1:7000/0"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    made = StateDir(tmp_path / "fleet")
    made.prepare()
    yield made
    made.forget()


def told(settings: Settings, state: StateDir) -> dict[str, str]:
    """What the hub is told of Redis: the values, of secrets what their files hold."""
    given = environment.of_hub(settings, state, redis_url=WITH_LOGIN, model_url="", model_api_key="")
    files = {
        name.removesuffix("_FILE"): Path(path)
        for name, path in given.items()
        if name.startswith("CHIMERA_REDIS") and name.endswith("_FILE")
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files.values())
    plain = {name: value for name, value in given.items() if name == "CHIMERA_REDIS_USERS"}
    return plain | {name: path.read_text(encoding="utf-8") for name, path in files.items()}


def test_an_embedded_redis_has_a_user_for_each_role_and_its_secret_stays(state: StateDir) -> None:
    chosen = environment.with_users(Settings(state_dir=state.path), state)
    assert told(chosen, state) == {
        "CHIMERA_REDIS_USERS": "roles",
        "CHIMERA_REDIS_URL": ADDRESS,
        "CHIMERA_REDIS_SECRET": state.redis_secret.read_text(encoding="utf-8"),
    }
    state.prepare()
    assert environment.with_users(Settings(state_dir=state.path), state).redis_secret == chosen.redis_secret
    assert stat.S_IMODE(state.redis_secret.stat().st_mode) == 0o600
    assert chosen.redis_secret is not None
    assert len(chosen.redis_secret.get_secret_value()) == 64


def test_the_headers_for_the_mcp_server_come_to_the_hub_in_a_file(state: StateDir) -> None:
    chosen = Settings(state_dir=state.path, mcp_headers=SecretStr('{"X-Key": "let-me-in"}'))
    given = environment.of_hub(
        environment.with_users(chosen, state), state, redis_url=WITH_LOGIN, model_url="", model_api_key=""
    )
    assert not any("let-me-in" in value for value in given.values())
    file = Path(given["CHIMERA_MCP_HEADERS_FILE"])
    assert (file.read_text(encoding="utf-8"), stat.S_IMODE(file.stat().st_mode)) == (
        '{"X-Key": "let-me-in"}',
        0o600,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"redis_users": "single"},
        {"redis_url": SecretStr(WITH_LOGIN)},
        {"redis_url": SecretStr(WITH_LOGIN), "redis_users": "single"},
    ],
)
def test_one_user_for_all_is_told_the_operators_login(
    state: StateDir, settings: dict[str, str | SecretStr]
) -> None:
    chosen = environment.with_users(Settings(state_dir=state.path, **settings), state)  # type: ignore[arg-type]  # (what a test gives by name)
    assert told(chosen, state)["CHIMERA_REDIS_URL"] == WITH_LOGIN
    assert told(chosen, state).get("CHIMERA_REDIS_USERS", "single") == "single"
    assert "CHIMERA_REDIS_SECRET" not in told(chosen, state)


def test_the_hub_is_not_told_the_operators_password_either(state: StateDir) -> None:
    secret = "a secret of the operator's own choice"
    settings = Settings(
        state_dir=state.path,
        redis_url=SecretStr(ADDRESS),
        redis_password=SecretStr("the-operators"),
        redis_users="roles",
        redis_secret=SecretStr(secret),
    )
    chosen = environment.with_users(settings, state)
    assert told(chosen, state) == {
        "CHIMERA_REDIS_USERS": "roles",
        "CHIMERA_REDIS_URL": ADDRESS,
        "CHIMERA_REDIS_SECRET": secret,
    }
    assert keeps_users(chosen), "the supervisor, which has it, makes the users"
    assert not keeps_users(chosen.model_copy(update={"redis_password": None})), "and no child of it"
