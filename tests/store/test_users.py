"""Users of Redis: names, passwords, and the settings that a role gets."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from chimera.errors import ConfigurationError
from chimera.settings import Settings, load
from chimera.store.rights import ROLES
from chimera.store.users import as_role, logged_in, password_of

SECRET = "s3cret-" * 8


def asked(**fields: object) -> Settings:
    return load(redis_url="redis://:admin@127.0.0.1:7000/2", redis_secret=SECRET, **fields)


def test_one_user_for_all_leaves_the_settings_as_they_are() -> None:
    settings = asked(redis_users="single")
    assert all(as_role(settings, role, "acme" if role == "worker" else "") is settings for role in ROLES)


def test_a_roles_login_stands_in_the_url_in_place_of_the_operators() -> None:
    settings = asked(redis_users="roles", redis_password="another")
    given = as_role(settings, "worker", "acme")
    password = password_of(SECRET, "worker", "acme", 1)
    assert given.redis_url == SecretStr(f"redis://chimera.worker.acme:{password}@127.0.0.1:7000/2")
    assert given.redis_password is None
    assert given.redis_secret is None


def test_a_role_gets_no_secret_that_it_does_not_need() -> None:
    settings = asked(redis_users="roles", api_key="a-key", model_api_key="a-model-key")
    worker, spare = as_role(settings, "worker", "acme"), as_role(settings, "spare")
    assert (worker.api_key, worker.model_api_key) == (None, SecretStr("a-model-key"))
    assert (spare.api_key, spare.model_api_key) == (None, None)
    assert as_role(settings, "gateway").api_key == SecretStr("a-key")


def test_passwords_differ_by_role_tenant_and_generation() -> None:
    made = {
        password_of(SECRET, "worker", "a", 1),
        password_of(SECRET, "worker", "ab", 1),
        password_of(SECRET, "worker", "a", 2),
        password_of(SECRET, "judge", "", 1),
        password_of(SECRET + "x", "judge", "", 1),
    }
    assert len(made) == 5


def test_roles_without_a_master_secret_are_refused_with_what_mends_it() -> None:
    settings = load(redis_url="redis://127.0.0.1/0", redis_users="roles")
    with pytest.raises(ConfigurationError, match="CHIMERA_REDIS_SECRET"):
        as_role(settings, "judge")


def test_a_short_master_secret_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="CHIMERA_REDIS_SECRET") as refused:
        load(redis_secret="too short")
    assert "too short" not in str(refused.value)


@pytest.mark.parametrize(("role", "tenant"), [("worker", ""), ("judge", "acme")])
def test_only_a_worker_is_one_tenants(role: str, tenant: str) -> None:
    with pytest.raises(ValueError, match="a worker is one tenant's"):
        as_role(asked(redis_users="roles"), role, tenant)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("redis://h:1/0", "redis://u:p@h:1/0"),
        ("rediss://old:pw@h/0?ssl_ca_certs=/a/b", "rediss://u:p@h/0?ssl_ca_certs=%2Fa%2Fb"),
        ("redis://h/0?password=old&username=me", "redis://u:p@h/0"),
        ("unix://:pw@/run/redis.sock?db=1", "unix://u:p@/run/redis.sock?db=1"),
    ],
)
def test_a_login_replaces_whatever_the_url_had(address: str, expected: str) -> None:
    assert logged_in(address, "u", "p") == expected
