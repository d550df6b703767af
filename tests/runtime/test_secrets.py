"""Tenants' secrets are read from files, handed to their owner alone, and shown to nobody."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from chimera.agents.models.endpoint import Ask, Endpoint, Reply
from chimera.agents.secrets import Secrets
from chimera.errors import ConfigurationError
from chimera.runtime import secrets
from chimera.runtime.modelkeys import TenantModels
from chimera.runtime.outfit import Outfit, bare
from chimera.runtime.outfitter import outfit, outfit_of_spare
from chimera.runtime.secrets import MOST_BYTES, TenantSecrets
from chimera.settings import GivenSettings, load


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for tenant, name, value in (
        ("acme", "MODEL_API_KEY", "the key of acme\n"),
        ("acme", "CRM_TOKEN", "a token"),
        ("other", "MODEL_API_KEY", "the key of other"),
    ):
        (tmp_path / tenant).mkdir(exist_ok=True)
        (tmp_path / tenant / name).write_text(value, encoding="utf-8")
    (tmp_path / "acme" / "..data").mkdir()  # as Kubernetes mounts them
    return tmp_path


def test_each_tenant_has_what_is_in_its_directory(directory: Path) -> None:
    read = TenantSecrets(directory)
    assert dict(read.of("acme")) == {"MODEL_API_KEY": "the key of acme", "CRM_TOKEN": "a token"}
    assert dict(read.of("other")) == {"MODEL_API_KEY": "the key of other"}
    assert dict(read.of("third")) == dict(TenantSecrets(None).of("acme")) == {}
    assert dict(read.of("..")) == dict(read.of("acme/..")) == {}, "a name leads nowhere else"


def test_a_changed_file_is_found_once_what_was_read_is_no_longer_fresh(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, now = TenantSecrets(directory), 1_000.0
    monkeypatch.setattr("chimera.runtime.secrets.time.monotonic", lambda: now)
    assert read.of("acme")["CRM_TOKEN"] == "a token"
    (directory / "acme" / "CRM_TOKEN").write_text("another", encoding="utf-8")
    now += secrets.FRESH_S / 2
    assert read.of("acme")["CRM_TOKEN"] == "a token"
    now += secrets.FRESH_S
    assert read.of("acme")["CRM_TOKEN"] == "another"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("not-a-name", b"hidden", "letters, digits and _"),
        ("BINARY", b"\xff\xfe hidden", "cannot be read"),
        ("LARGE", b"hidden" * MOST_BYTES, "over 49,152 bytes"),
    ],
)
def test_what_cannot_be_used_is_named_and_not_shown(
    directory: Path, name: str, content: bytes, expected: str
) -> None:
    (directory / "acme" / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=expected) as refused:
        TenantSecrets(directory).of("acme")
    assert "hidden" not in f"{refused.value!r} {refused.value.__cause__!r}", "nor in a traceback"


def test_of_secrets_only_the_names_are_shown() -> None:
    held = Secrets({"CRM_TOKEN": "a token"})
    assert "a token" not in f"{held!r} {held} {held.keys()!r}"
    assert held["CRM_TOKEN"] == "a token"
    with pytest.raises(KeyError, match="it has CRM_TOKEN"):
        held["CRM"]
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(held)


def test_an_outfit_holds_its_tenants_secrets_and_none_of_the_hubs(directory: Path) -> None:
    hub = load(
        redis_url="redis://127.0.0.1:6379/0?ssl_ca_certs=/ca.pem",
        redis_users="roles",
        redis_secret="m" * 32,
        api_key="the local key",
        model_api_key="the fleet's key",
        tenant_secrets_dir=directory,
        tenant_limits="day=5",
        slots=7,
    )
    made = outfit(hub, "acme", TenantSecrets(directory).of("acme"))
    text = made.model_dump_json()
    for foreign in ("m" * 32, "the local key", "the fleet's key", "the key of other", "day=5"):
        assert foreign not in text
    given = made.settings
    assert given.model_api_key == SecretStr("the key of acme"), "its own wins"
    assert given.slots == 7
    assert given.redis_url is not None
    assert "chimera.worker.acme:" in given.redis_url.get_secret_value()
    assert made.reads == ("/ca.pem",)
    assert "the key" not in f"{made} {made!r}"

    other = outfit(hub, "third", Secrets())
    assert other.settings.model_api_key == SecretStr("the fleet's key"), "who has none uses the fleet's"
    waiting = outfit_of_spare(hub)
    assert "the fleet's key" not in waiting.model_dump_json()
    assert "redis_url" in waiting.values
    assert "redis" not in bare(waiting).model_dump_json().replace("redis_users", "")


def test_handed_settings_take_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_API_KEY", "the hub's")
    monkeypatch.setenv("CHIMERA_SLOTS", "9")
    assert load().api_key == SecretStr("the hub's")
    given = GivenSettings(redis_url=SecretStr("redis://h/0"))
    assert (given.api_key, given.slots) == (None, 16)


def test_a_secret_that_does_not_fit_is_in_no_traceback() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(redis_secret="too short a secret")
    assert "too short a secret" not in f"{refused.value} {refused.value.__cause__}"


class Door:
    """An endpoint that is never asked."""

    provider = ""

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name, self.url, self.key, self.closed = name, url, key, False

    async def ask(self, ask: Ask) -> Reply:
        raise AssertionError

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Door]:
    doors: list[Door] = []

    def open_(name: str, url: str, key: str) -> Endpoint:
        doors.append(Door(name, url, key))
        return doors[-1]

    monkeypatch.setattr("chimera.agents.models.client.open_endpoint", open_)
    return doors


async def test_calls_for_a_tenant_go_out_under_its_own_key(
    directory: Path, opened: list[Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "FRESH_S", -1.0)
    settings = load(model="m", model_url="http://h/v1", model_api_key="fleet", tenant_secrets_dir=directory)
    models = TenantModels(settings)
    for tenant in ("acme", "other", "third", "acme"):
        await (await models.of(tenant)).open()
    assert [door.key for door in opened] == ["the key of acme", "the key of other", "fleet"]
    (directory / "acme" / "MODEL_API_KEY").write_text("a new key", encoding="utf-8")
    await (await models.of("acme")).open()
    assert opened[-1].key == "a new key"
    assert not opened[0].closed, "calls under way end where they began"
    await models.aclose()
    assert all(door.closed for door in opened)


@pytest.mark.parametrize(
    "said",
    [
        b'{"tenant": "a", "values": {}, "secrets": {"A": ["planted"]}}',
        b'{"tenant": "a", "values": {}, "secrets": {"A": "planted"',
        b'{"tenant": "a", "values": "planted"}',
    ],
)
def test_an_outfit_that_cannot_be_read_is_not_quoted(said: bytes) -> None:
    """Its error goes into Ray's logs, and is no secret of this process yet that would be redacted."""
    with pytest.raises(ValidationError) as refused:
        Outfit.model_validate_json(said)
    assert "planted" not in str(refused.value)
