"""Redis as the manifests have it, on a real server: its configuration, its users, and TLS to it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import trustme
from pydantic import SecretStr

from chimera.errors import StoreUnavailable
from chimera.runtime.base import open_base
from chimera.runtime.users import reconcile
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from chimera.store.connection import connect, translated
from chimera.store.rights import ROLES, TENANTS
from chimera.store.users import as_role
from tests.kuberay.manifests import KUBERAY, examples
from tests.relay import Relay

TENANT = "acme"
ELSEWHERE = {"aclfile", "port", "bind", "dir"}
"""Directives that name a place in the container."""


def secret(key: str) -> str:
    """A value of the example of Redis' Secret."""
    (found,) = [one["stringData"] for one in examples() if one["metadata"]["name"] == "chimera-redis"]
    return str(found[key])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server with the manifests' configuration and the example's users."""
    directory = tmp_path_factory.mktemp("redis")
    users = directory / "users.acl"
    users.write_text(secret("users.acl"), encoding="utf-8")
    lines = (KUBERAY / "base/redis/redis.conf").read_text(encoding="utf-8").splitlines()
    given = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    said = {name: value for name, value in given.items() if name not in ELSEWHERE} | {"aclfile": str(users)}
    with RedisServer(directory, password=secret("password"), directives=said) as running:
        yield running


@pytest.fixture
def settings(server: RedisServer, tmp_path: Path) -> Settings:
    """What the hub's pods are told: an address without a login, the password from a file, users by role."""
    return load(
        redis_url=f"redis://127.0.0.1:{server.port}/0",
        redis_password=secret("password"),
        redis_users="roles",
        redis_secret="of the tests, and of nobody else",
        state_dir=tmp_path,
    )


def as_user(server: RedisServer, name: str, password: str) -> redis.Redis:
    return redis.Redis(port=server.port, username=name, password=password)


async def test_the_hub_logs_in_as_the_operator_and_makes_the_users_of_its_parts(settings: Settings) -> None:
    base = await open_base(settings)
    try:
        await base.tenants.add(TENANT)
        await reconcile(base)
        for role in ROLES:
            given = connect(as_role(settings, role, TENANT if role in TENANTS else ""))
            try:
                user = f"chimera.{role}.{TENANT}" if role in TENANTS else f"chimera.{role}"
                assert await given.execute_command("PING") in {True, b"PONG"}, user
            finally:
                await given.aclose()
        stood = await base.redis.config_get("append*")
        assert (stood["appendonly"], stood["appendfsync"]) == ("yes", "always")
        await base.tenants.remove(TENANT)
    finally:
        await base.close()


def test_nobody_gets_in_without_a_password(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.get("x")


def test_rays_user_may_touch_rays_keys_alone(server: RedisServer) -> None:
    with as_user(server, "gcs", secret("gcs-password")) as gcs:
        gcs.hset("RAYhub-1@KV", "a", "1")
        assert gcs.hget("RAYhub-1@KV", "a") == b"1"
        gcs.delete("RAYhub-1@KV", "DUMMY")
        assert gcs.info("server")
        for words in (
            ("GET", "chimera:schema"),
            ("SET", "{acme}:mission:m1", "x"),
            ("FLUSHALL",),
            ("FLUSHDB",),
            ("SCAN", "0"),
            ("CLIENT", "KILL", "TYPE", "normal"),
            ("CONFIG", "GET", "*"),
            ("ACL", "LIST"),
            ("EVAL", "return 1", "0"),
            ("PUBLISH", "chimera:missions:acme", "x"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                gcs.execute_command(*words)


def test_the_user_of_probes_may_ask_whether_it_is_there(server: RedisServer) -> None:
    with as_user(server, "probe", "none") as probe:
        assert probe.ping()
        for words in (("GET", "x"), ("INFO",), ("SET", "x", "y")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                probe.execute_command(*words)


async def test_every_part_logs_in_over_tls_and_checks_the_server(
    server: RedisServer, settings: Settings, tmp_path: Path
) -> None:
    # The embedded server is built without TLS: what ends it here is a relay before it.
    authority, trusted = trustme.CA(), tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with Relay(server.port, tls=context) as relay:
        address = f"rediss://127.0.0.1:{relay.port}/0"
        told = SecretStr(f"{address}?ssl_ca_certs={quote(str(trusted), safe='/')}")
        encrypted = settings.model_copy(update={"redis_url": told})
        # The operator first, who makes the others.
        login = SecretStr(told.get_secret_value().replace("rediss://", f"rediss://:{secret('password')}@"))
        base = await open_base(encrypted.model_copy(update={"redis_url": login}))
        try:
            await base.tenants.add(TENANT)
            await reconcile(base)
            for role in ROLES:
                tenant = TENANT if role in TENANTS else ""
                for given, trusting in ((encrypted, True), (settings, False)):
                    url = given if trusting else given.model_copy(update={"redis_url": SecretStr(address)})
                    client = connect(as_role(url, role, tenant))
                    try:
                        if trusting:
                            assert await client.execute_command("PING") in {True, b"PONG"}, role
                        else:
                            with pytest.raises(StoreUnavailable, match="certificate"), translated():
                                await client.execute_command("PING")
                    finally:
                        await client.aclose()
            await base.tenants.remove(TENANT)
        finally:
            await base.close()
