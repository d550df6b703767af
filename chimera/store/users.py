"""Who logs in to Redis: a user for each part of the hub, and of each tenant its workers' and its spoke's.

What each may do is in `chimera.store.rights`. Passwords are derived, so nobody stores or sends them: whoever
holds the master secret can compute each. Redis is given their digests only. A Redis that keeps no ACL file
forgets its users when it ends: whoever has the operator's login makes them again (`UserStore`), and until
then the others are refused, and come back by themselves.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import SecretStr
from redis.connection import parse_url
from redis.exceptions import NoPermissionError, ResponseError

from chimera.errors import ConfigurationError
from chimera.settings import Settings, is_secret
from chimera.store.connection import Redis, translated, url
from chimera.store.rights import RIGHTS, ROLES, TENANTS, Role, rules
from chimera.store.scripts import digest, source

PREFIX = "chimera."
"""Users whose names begin so are ours; no other is touched."""

KEEPS: dict[Role, frozenset[str]] = {
    "gateway": frozenset({"api_key", "model_api_key"}),
    "judge": frozenset({"model_api_key"}),
    "orchestrator": frozenset({"mcp_headers"}),
    "worker": frozenset({"model_api_key"}),
    "spoke": frozenset({"model_api_key"}),
}
"""The secret settings that a role needs, beside its login."""


def user_of(role: Role, tenant: str = "") -> str:
    """The name of a role's user: ``chimera.judge``, ``chimera.worker.acme``."""
    return f"{PREFIX}{role}.{tenant}" if tenant else f"{PREFIX}{role}"


def password_of(secret: str, role: Role, tenant: str, generation: int) -> str:
    """The password of a user: 64 hexadecimal digits.

    A worker's is derived from that of its tenant's spoke, which can so equip workers without the master
    secret.
    """
    if role == "worker":
        return workers_password(password_of(secret, "spoke", tenant, generation))
    return hmac.digest(secret.encode(), f"{role}/{tenant}/{generation}".encode(), hashlib.sha256).hex()


def workers_password(spokes: str) -> str:
    """The password of a tenant's workers, from its spoke's; the other way round there is none."""
    return hmac.digest(spokes.encode(), b"worker", hashlib.sha256).hex()


def login_of(settings: Settings) -> tuple[str, str]:
    """User and password that these settings log in with; "" for what they do not say."""
    said = _parts(settings)
    own = settings.redis_password.get_secret_value() if settings.redis_password else said.get("password")
    return str(said.get("username") or ""), str(own or "")


def as_role(settings: Settings, role: Role, tenant: str = "") -> Settings:
    """Settings for a process that does one role's work, and no more than that.

    Under ``CHIMERA_REDIS_USERS=single`` they are the same. Under `roles` their `redis_url` carries the role's
    user and password, and no secret is in them that the role does not need: not the master secret above all.
    Whoever logs in as a tenant's spoke has no master secret, and can make its workers' settings all the same.

    Args:
        tenant: whose worker or spoke it is; "" for every other role.
    Raises:
        ConfigurationError: no Redis is named, or there is no master secret.
        ValueError: a worker or spoke without a tenant, or another role with one.
    """
    if (role in TENANTS) != bool(tenant):
        raise ValueError(f"workers and spokes are one tenant's, and nobody else is: {role!r} of {tenant!r}")
    user, own = login_of(settings) if settings.redis_url else ("", "")
    if user.startswith(f"{PREFIX}spoke."):
        if (role, user) != ("worker", user_of("spoke", tenant)):
            raise ConfigurationError(
                f"CHIMERA_REDIS_URL logs in as {user}, who makes its own workers' logins alone"
            )
        password = workers_password(own)
    elif settings.redis_users == "single":
        return settings
    else:
        password = password_of(_secret(settings), role, tenant, settings.redis_generation)
    login = SecretStr(logged_in(url(settings), user_of(role, tenant), password))
    kept = KEEPS.get(role, frozenset())
    dropped = {
        name: None
        for name, field in type(settings).model_fields.items()
        if is_secret(field) and name not in kept and getattr(settings, name) is not None
    }
    return settings.model_copy(update={**dropped, "redis_url": login})


def logged_in(address: str, user: str, password: str) -> str:
    """A Redis URL with another login, in place of the one it may have."""
    parts = urlsplit(without_login(address))
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()


def without_login(address: str) -> str:
    """A Redis URL without the user and password that it may have."""
    parts = urlsplit(address)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in {"username", "password"}]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=urlencode(query)).geturl()


def _secret(settings: Settings) -> str:
    if settings.redis_secret is None:
        raise ConfigurationError(
            "CHIMERA_REDIS_USERS is roles, and there is no master secret to derive their passwords from: "
            "set CHIMERA_REDIS_SECRET (or CHIMERA_REDIS_SECRET_FILE) to at least 32 random characters, for "
            "example to what `openssl rand -hex 32` prints"
        )
    return settings.redis_secret.get_secret_value()


def keeps_users(settings: Settings) -> bool:
    """Whether this process has the operator's login, and so makes the users of the others."""
    if settings.redis_users == "single":
        return False
    return settings.redis_password is not None or "password" in _parts(settings)


def _parts(settings: Settings) -> dict[str, Any]:
    return dict(parse_url(url(settings)))  # type: ignore[no-untyped-call]  # (the driver's is untyped)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reconciliation did.

    Attributes:
        made: users that were missing or otherwise than they must be.
        removed: users of tenants that are gone.
        scripts: how many scripts were missing.
    """

    made: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    scripts: int = 0

    def __bool__(self) -> bool:
        return bool(self.made or self.removed or self.scripts)


class UserStore:
    """Our users in one Redis.

    Args:
        redis: a client that logs in as the operator, who may run ``ACL``.
        settings: with the master secret.
    Raises:
        ConfigurationError: there is none.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._secret, self._generation = _secret(settings), settings.redis_generation

    async def reconcile(self, tenants: Collection[str]) -> Changes:
        """Make our users and the scripts of those who may bring none; remove users of tenants that are gone.

        What is as it must be is left alone. Harmless when repeated, and by several at once.

        Raises:
            ConfigurationError: Redis denies it, or lets in who has no login at all.
            StoreUnavailable, StoreTimeout: it is away.
        """
        expected = {user_of(role, tenant): self._rules(role, tenant) for role, tenant in _users(tenants)}
        with _allowed():
            scripts = await self._load_scripts()
            lines = await self._redis.execute_command("ACL LIST")
            if any(map(_open_to_all, lines)):
                raise ConfigurationError(OPEN)
            found = _ours(lines)
            made = tuple(name for name, wanted in expected.items() if found.get(name) != _said(wanted))
            for name in made:
                await self._redis.execute_command("ACL SETUSER", name, "reset", *expected[name])
            removed = tuple(sorted(found.keys() - expected.keys()))
            if removed:
                await self._redis.execute_command("ACL DELUSER", *removed)
        return Changes(made, removed, scripts)

    async def missing(self, tenants: Collection[str]) -> bool:
        """Whether a user or a script is not there, or a user too many: a cheap look, which reads no rules."""
        expected = {user_of(*one) for one in _users(tenants)}
        with _allowed():
            names = await self._redis.execute_command("ACL USERS")
            there = await self._redis.script_exists(*map(digest, LOADED))
        return {name for name in names if name.startswith(PREFIX)} != expected or not all(there)

    async def _load_scripts(self) -> int:
        there = await self._redis.script_exists(*map(digest, LOADED))
        missing = [name for name, is_there in zip(LOADED, there, strict=True) if not is_there]
        for name in missing:
            await self._redis.script_load(source(name))
        return len(missing)

    def _rules(self, role: Role, tenant: str = "") -> tuple[str, ...]:
        """With the passwords of this generation, and of the one before."""
        generations = range(max(1, self._generation - 1), self._generation + 1)
        passwords = (password_of(self._secret, role, tenant, one) for one in generations)
        return (
            *rules(role, tenant),
            *(f"#{hashlib.sha256(password.encode()).hexdigest()}" for password in passwords),
        )


def _users(tenants: Collection[str]) -> Iterator[tuple[Role, str]]:
    """Whoever there must be: the parts of the hub, and of each tenant its workers and its spoke."""
    yield from ((role, "") for role in ROLES if role not in TENANTS)
    yield from ((role, tenant) for role in TENANTS for tenant in tenants)


DENIED = (
    "CHIMERA_REDIS_USERS is roles, and Redis denies ACL to the login of CHIMERA_REDIS_URL: name one that may "
    "run it (`+acl +script`, all keys and channels), or set CHIMERA_REDIS_USERS=single where none can"
)

OPEN = (
    "CHIMERA_REDIS_USERS is roles, and Redis lets anybody in as `default` without a password, agents too: "
    "give that user one (`requirepass`), or switch it off (`ACL SETUSER default off`)"
)

LOADED = sorted({script for rights in RIGHTS.values() if not rights.brings for script in rights.scripts})
"""The scripts of roles that may bring none."""

_SAYS_NOTHING = frozenset({"sanitize-payload", "alldbs", "resetchannels", "-@all"})
"""What a server adds, or leaves out, in telling what a user may do."""


def _open_to_all(line: str) -> bool:
    _, name, *said = line.split()
    return name == "default" and {"on", "nopass"} <= set(said) and any(word.startswith("+") for word in said)


def _ours(lines: Iterable[str]) -> dict[str, frozenset[str]]:
    """Users of ours in what ``ACL LIST`` says: ``user NAME on #digest ~key … (+command ~key …)``."""
    found = {}
    for line in lines:
        _, name, said = line.split(" ", 2)
        if name.startswith(PREFIX):
            found[name] = _said([said])
    return found


def _said(wanted: Iterable[str]) -> frozenset[str]:
    """Rules without their order, those of a selector together: a server tells them in an order of its own."""
    found = set()
    for selector, word in re.findall(r"\(([^)]*)\)|(\S+)", " ".join(wanted)):
        kept = " ".join(sorted(set(selector.split() or [word]) - _SAYS_NOTHING))
        found.add(f"({kept})" if selector else kept)
    return frozenset(found - {""})


@contextmanager
def _allowed() -> Iterator[None]:
    with translated():
        try:
            yield
        except ResponseError as exc:
            if isinstance(exc, NoPermissionError) or "unknown command" in str(exc).lower():
                raise ConfigurationError(f"{DENIED} ({exc})") from exc
            raise
