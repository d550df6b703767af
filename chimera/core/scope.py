"""Scopes: what a key may do. Each route of the API names the one it needs."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from chimera.errors import InvalidRequest

FLEET = "*"
"""Whose a key of the whole fleet is, in place of a tenant: it can be no tenant's name."""


class Scope(StrEnum):
    """What a key may do."""

    SUBMIT = "submit"
    """Submit missions and make paid calls; change and end missions."""
    READ = "read"
    """Whatever only reads."""
    OPERATE = "operate"
    """Answer reviews, retry actions, brake, lower a limit."""
    ADMIN = "admin"
    """Make and take away keys; the fleet's: tenants and what they may have."""
    LIMITS = "limits"
    """Raise or remove a limit of money. Nothing else includes it."""


ALL = frozenset(Scope)
USUAL = ALL - {Scope.LIMITS}
"""A tenant's first key's, and those of keys from before there were scopes."""
WORKING = frozenset({Scope.SUBMIT, Scope.READ})
"""A further key's, where nothing else is asked for."""


def parse_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """``["submit", "read"]``, also as ``["submit,read"]``.

    Raises:
        InvalidRequest: none, or one that does not exist.
    """
    given = {name.strip() for part in names for name in part.split(",") if name.strip()}
    if unknown := sorted(given - set(Scope)):
        raise InvalidRequest(f"there is no scope {unknown[0]!r}: use some of {', '.join(Scope)}")
    if not given:
        raise InvalidRequest(f"a key needs a scope: use some of {', '.join(Scope)}")
    return frozenset(map(Scope, given))


def shown(scopes: Iterable[Scope]) -> tuple[str, ...]:
    """Scopes in the order in which they are documented."""
    has = frozenset(scopes)
    return tuple(scope.value for scope in Scope if scope in has)
