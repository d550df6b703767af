"""Settings: the environment alone, validated whole, secrets from files, nothing printed that is secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chimera.errors import ConfigurationError
from chimera.settings import PREFIX, Settings, is_secret, load, strangers


def test_all_errors_come_at_once_and_name_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_SLOTS", "many")
    monkeypatch.setenv("CHIMERA_LEASE_S", "-1")
    with pytest.raises(ConfigurationError) as raised:
        load()
    for name in ("CHIMERA_SLOTS", "CHIMERA_LEASE_S", "'many'", "chimera env"):
        assert name in str(raised.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lease_s": 1, "heartbeat_s": 0.5}, "a third of CHIMERA_LEASE_S"),
        ({"node_token": "x"}, "CHIMERA_NODE_TOKEN: it has 1 of at least 32 characters"),
        ({"reject_below": 0.95}, "must not be above CHIMERA_ACCEPT_ABOVE"),
        ({"slots": 2, "express_slots": 2}, "below CHIMERA_SLOTS"),
        ({"brake_short_s": 100, "brake_long_s": 199}, "at least twice CHIMERA_BRAKE_SHORT_S"),
        ({"brake_throttle_burn": 9}, "must not be below CHIMERA_BRAKE_THROTTLE_BURN"),
        (
            {"brake_webhook_url": "https://hooks.example.com/x"},
            "add hooks.example.com to CHIMERA_ACTION_HOSTS",
        ),
        ({"brake_webhook_url": "hooks", "action_hosts": "hooks"}, "WEBHOOK_URL: 'hooks' is no address"),
        ({"mcp_url": "http://x:9/mcp", "mcp_tool": "t"}, "CHIMERA_MCP_URL: add x:9 to CHIMERA_MCP_HOSTS"),
        ({"mcp_url": "http://me:pw@x/mcp", "mcp_tool": "t"}, "CHIMERA_MCP_URL: .* without user"),
        ({"mcp_url": "http://x/mcp", "mcp_hosts": "x"}, "CHIMERA_MCP_URL needs CHIMERA_MCP_TOOL"),
        ({"mcp_arguments": '{"a": "{kind}"}'}, "CHIMERA_MCP_ARGUMENTS: put {id} or {event} somewhere"),
        ({"mcp_kinds": "task.*,mission.over"}, "CHIMERA_MCP_KINDS: no event is of kind 'mission.over'"),
        ({"mcp_since": "2026-01-01T00:00:00"}, "CHIMERA_MCP_SINCE: it has no zone"),
        ({"mcp_headers": '{"Host": "x"}'}, "CHIMERA_MCP_HEADERS: the header Host is set by the protocol"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(**values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("MODEL_PRICE_INPUT_USD", "inf"), ("MODEL_PRICE_OUTPUT_USD", "nan"), ("PRICE_CEILING_USD", "inf")),
        *(("KEEP_REPLIES_S", "inf"), ("KEEP_REPLIES_S", "1e18")),
        *(("TENANT_LIMITS", "day=-5"), ("TENANT_LIMITS", "decade=5"), ("TENANT_LIMITS", "day")),
    ],
)
def test_what_the_ledger_could_not_work_with_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"CHIMERA_{name}", value)
    with pytest.raises(ConfigurationError, match=f"CHIMERA_{name}: .*it is '{value}'"):
        load()


def test_a_variable_that_is_no_setting_is_found_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*(f"CHIMERA_{name.upper()}" for name in Settings.model_fields), "CHIMERA_API_KEY_FILE"):
        monkeypatch.setenv(name, "x")
    assert strangers() == {}
    monkeypatch.setenv("CHIMERA_TENANT_LIMIT", "day=5")
    monkeypatch.setenv("CHIMERA_LEASE_S_FILE", "x")
    monkeypatch.setenv("CHIMERA_QUUX", "x")
    assert strangers() == {
        "CHIMERA_LEASE_S_FILE": "CHIMERA_LEASE_S",
        "CHIMERA_QUUX": "",
        "CHIMERA_TENANT_LIMIT": "CHIMERA_TENANT_LIMITS",
    }


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("chi_from_a_file\n")
    monkeypatch.setenv("CHIMERA_API_KEY_FILE", str(tmp_path / "key"))
    key = load().api_key
    assert key is not None
    assert key.get_secret_value() == "chi_from_a_file"


def test_a_secrets_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_API_KEY_FILE", "/nowhere/key")
    with pytest.raises(ConfigurationError, match=r"CHIMERA_API_KEY_FILE names /nowhere/key"):
        load()


def test_a_wrong_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in repr(load(api_key="hunter2"))


def test_nothing_but_the_environment_changes_behaviour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Files a person might expect to be read, in the places they would put them, are not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    usual = load()
    for name in (".env", "chimera.toml", "chimera.yaml", "settings.json", ".chimera", "pyproject.toml"):
        (tmp_path / name).write_text("CHIMERA_SLOTS=7\nslots=7\n")
    (tmp_path / "CHIMERA_SLOTS").write_text("7")
    assert load() == usual


def test_every_setting_has_a_meaning_and_a_variable() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"{PREFIX}{name.upper()}".isidentifier()
    secrets = {name for name, field in Settings.model_fields.items() if is_secret(field)}
    named = {
        "api_key",
        "redis_url",
        "redis_password",
        "redis_secret",
        "model_api_key",
        "mcp_headers",
        "node_token",
    }
    assert secrets == named


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load(), "slots", 3)  # noqa: B010  (a type checker refuses the plain form)
