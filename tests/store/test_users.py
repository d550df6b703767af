"""Users of Redis: names, passwords, and the settings that a role gets."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

from chimera.errors import ConfigurationError, StoreUnavailable
from chimera.runtime.base import Base, base_of
from chimera.runtime.users import reconcile
from chimera.settings import Settings, load
from chimera.store import users as module
from chimera.store.connection import translated
from chimera.store.rights import ROLES, TENANTS
from chimera.store.users import UserStore, as_role, keeps_users, password_of, user_of
from tests.redis_fixtures import logged_in
from tests.store import drive

SECRET = "s3cret-" * 8


def asked(**fields: object) -> Settings:
    return load(redis_url="redis://:admin@127.0.0.1:7000/2", redis_secret=SECRET, **fields)


def test_one_user_for_all_leaves_the_settings_as_they_are() -> None:
    settings = asked(redis_users="single")
    assert all(as_role(settings, role, "acme" if role in TENANTS else "") is settings for role in ROLES)


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


@pytest.mark.parametrize(("role", "tenant"), [("worker", ""), ("spoke", ""), ("judge", "acme")])
def test_only_workers_and_spokes_are_one_tenants(role: str, tenant: str) -> None:
    with pytest.raises(ValueError, match="one tenant's"):
        as_role(asked(redis_users="roles"), role, tenant)  # type: ignore[arg-type]  # (a role by its name)


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
    assert module.logged_in(address, "u", "p") == expected


async def test_a_user_logs_in_with_its_password_and_those_of_others_are_refused(
    base: Base, tenant: str
) -> None:
    async with logged_in(base.settings, "worker", tenant) as worker:
        assert await worker.redis.ping()
    stranger = as_role(base.settings, "worker", tenant).model_copy(
        update={"redis_url": as_role(base.settings, "worker", f"{tenant}x").redis_url}
    )
    refused = base_of(stranger)
    with pytest.raises(StoreUnavailable, match="refuses the login"):
        await refused.tenants.names()
    await refused.close()


async def test_reconciling_makes_what_is_missing_mends_what_differs_and_leaves_the_rest(
    base: Base, tenant: str
) -> None:
    users = UserStore(base.redis, base.settings)
    tenants = await base.tenants.names()
    assert not await users.reconcile(tenants)
    assert not await users.missing(tenants)
    worker = user_of("worker", tenant)
    await base.redis.execute_command("ACL SETUSER", worker, "+flushall", "~*")
    await base.redis.execute_command("ACL DELUSER", "chimera.judge")
    await base.redis.script_flush()
    assert await users.missing(tenants)
    changes = await users.reconcile(tenants)
    assert (set(changes.made), changes.removed, bool(changes.scripts)) == (
        {worker, "chimera.judge"},
        (),
        True,
    )
    assert not await users.reconcile(tenants)
    async with logged_in(base.settings, "worker", tenant) as at:
        with pytest.raises(NoPermissionError):
            await at.redis.flushall()


async def test_the_user_of_a_tenant_that_is_gone_goes_and_its_connections_with_it(
    base: Base, tenant: str
) -> None:
    gone = f"{tenant}-gone"
    await base.tenants.add(gone)
    await reconcile(base)
    async with logged_in(base.settings, "worker", gone) as worker:
        assert await worker.redis.ping()
        await base.tenants.remove(gone)
        assert user_of("worker", gone) in (await reconcile(base)).removed
        with pytest.raises(StoreUnavailable), translated():
            await worker.redis.ping()
        with pytest.raises(StoreUnavailable, match="refuses the login"), translated():
            await worker.redis.ping()


async def test_users_of_others_in_the_same_redis_are_left_alone(base: Base) -> None:
    await base.redis.execute_command("ACL SETUSER", "chimeric", "on", ">theirs", "+get", "~theirs")
    assert "chimeric" not in (await reconcile(base)).removed
    assert "chimeric" in await base.redis.execute_command("ACL USERS")
    await base.redis.execute_command("ACL DELUSER", "chimeric")


async def test_passwords_are_changed_with_an_overlap_of_one_generation(base: Base, tenant: str) -> None:
    old = base.settings
    new, newer = (old.model_copy(update={"redis_generation": number}) for number in (2, 3))
    for settings, taken in ((new, {1, 2}), (newer, {2, 3}), (old, {1})):
        await UserStore(base.redis, settings).reconcile(await base.tenants.names())
        for number in (1, 2, 3):
            told = old.model_copy(update={"redis_generation": number})
            async with logged_in(told, "worker", tenant) as worker:
                if number in taken:
                    assert await worker.redis.ping()
                else:
                    with pytest.raises(StoreUnavailable), translated():
                        await worker.redis.ping()


async def test_a_login_that_may_not_run_acl_is_told_what_to_do(base: Base) -> None:
    async with logged_in(base.settings, "gateway") as gateway:
        users = UserStore(gateway.redis, base.settings)
        with pytest.raises(ConfigurationError, match="CHIMERA_REDIS_USERS=single"):
            await users.reconcile([])
        with pytest.raises(ConfigurationError, match="CHIMERA_REDIS_USERS=single"):
            await users.missing([])


async def test_a_worker_may_bring_no_script_and_waits_for_those_that_a_flush_took(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    async with logged_in(base.settings, "worker", tenant) as worker:
        await base.redis.script_flush()
        with pytest.raises(StoreUnavailable, match="forgotten its scripts"):
            await drive.claim(worker.of(tenant), claim_id="c1")
        await reconcile(base)
        (one,) = await drive.claim(worker.of(tenant), claim_id="c1")
    assert one.task_id == "m1.0"
    assert (await stores.tasks.get("m1.0")).status == "PENDING"


@pytest.mark.parametrize(
    ("fields", "keeps"),
    [
        ({"redis_url": "redis://:pw@h/0", "redis_users": "roles"}, True),
        ({"redis_url": "redis://me:pw@h/0", "redis_users": "roles"}, True),
        ({"redis_url": "redis://h/0", "redis_password": "pw", "redis_users": "roles"}, True),
        ({"redis_url": "redis://h/0", "redis_users": "roles"}, False),
        ({"redis_url": "redis://:pw@h/0", "redis_users": "single"}, False),
    ],
)
def test_whoever_has_the_operators_login_keeps_the_users(fields: dict[str, str], keeps: bool) -> None:
    assert keeps_users(load(redis_secret=SECRET, **fields)) is keeps


async def test_no_users_are_made_beside_one_that_lets_anybody_in(base: Base) -> None:
    """An agent would need no login: what its user may not do, it did as `default`."""
    said = await base.redis.execute_command("ACL LIST")
    (default,) = [line.removeprefix("user default ") for line in said if line.startswith("user default ")]
    store = UserStore(base.redis, base.settings)
    try:
        await base.redis.execute_command("ACL SETUSER", "default", "nopass")
        with pytest.raises(ConfigurationError, match="without a password"):
            await store.reconcile(await base.tenants.names())
    finally:
        await base.redis.execute_command("ACL SETUSER", "default", "reset", *default.split())
    await store.reconcile(await base.tenants.names())


def test_a_default_that_may_do_nothing_lets_nobody_in() -> None:
    assert module._open_to_all("user default on nopass sanitize-payload ~* &* +@all")
    for shut in ("on nopass ~* &* -@all", "off nopass ~* &* +@all", "on #0a1b ~* &* +@all"):
        assert not module._open_to_all(f"user default {shut}")
