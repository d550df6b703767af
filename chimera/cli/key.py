"""`chimera key`: keys of tenants, and of the whole fleet. For the operator: it asks Redis, no key."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.output import Format, Output
from chimera.cli.store import at_base, operator

if TYPE_CHECKING:
    from chimera.runtime.base import Base
    from chimera.store.apikeys import KeyRecord, NewKey

app = output.group("key", "Keys of tenants and of the fleet, for the operator: create, list, rotate, revoke.")

Tenant = Annotated[str, typer.Option("--tenant", "-t", help="Whose key.", metavar="NAME")]
Fleet = Annotated[bool, typer.Option("--fleet", help="The whole fleet's, in place of a tenant's.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `chimera key list` shows it.")]
Why = Annotated[str, typer.Option("--reason", help="Why, in words; kept with the act.")]

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@app.command()
def create(
    tenant: Tenant = "",
    fleet: Fleet = False,
    scopes: Annotated[
        str, typer.Option("--scopes", help="Of submit, read, operate, admin, limits; or all.")
    ] = "submit,read",
    name: Annotated[str, typer.Option("--name", help="For people: what it is for.")] = "",
    expires: Annotated[
        str, typer.Option("--expires", help="It ends after this: 90d, 12h, 30m.", metavar="TIME")
    ] = "",
    requests_per_s: Annotated[
        float, typer.Option(min=0, help="Its own rate, beside the tenant's; 0: none.")
    ] = 0.0,
    reason: Why = "",
    output_format: Output = Format.TEXT,
) -> None:
    """Make a key and print it. It is shown this once: only its digest is kept.

    \b
    Examples:
      chimera key create --tenant acme
      chimera key create --tenant acme --scopes read --name dashboards --expires 90d
      chimera key create --tenant acme --scopes limits,operate --reason "finance"
      chimera key create --fleet --scopes all --name terraform
    """
    from chimera.core.scope import ALL, parse_scopes

    has = ALL if scopes.strip() == "all" else parse_scopes([scopes])
    lives_s = seconds(expires, "--expires") if expires else None

    async def make(base: Base) -> NewKey:
        return await base.api_keys.create(
            await _whose(base, tenant, fleet),
            uuid.uuid4().hex,
            by=operator(),
            scopes=has,
            name=name,
            lives_s=lives_s,
            requests_per_s=requests_per_s,
            reason=reason,
        )

    _shown_once(at_base(make), output_format)


@app.command("list")
def list_(tenant: Tenant = "", fleet: Fleet = False, output_format: Output = Format.TEXT) -> None:
    """Keys: id, name, scopes, when each was made, ends, and was used last (to within a minute).

    \b
    Examples:
      chimera key list --tenant acme
      chimera key list --fleet -o json
    """

    async def look(base: Base) -> list[KeyRecord]:
        return await base.api_keys.list(await _whose(base, tenant, fleet))

    found = at_base(look)
    if output_format is Format.JSON:
        return output.document([_document(one) for one in found])
    rows = [
        (
            one.key_id,
            one.name,
            ",".join(_scopes(one)),
            _at(one.created_at) or "before this was kept",
            _at(one.expires_at) or "never",
            _at(one.used_at) or "not yet",
            f"{one.requests_per_s:g}" if one.requests_per_s else "",
        )
        for one in found
    ]
    return output.table(("KEY", "NAME", "SCOPES", "MADE", "ENDS", "USED", "REQUESTS/S"), rows)


@app.command()
def rotate(
    key_id: KeyId,
    tenant: Tenant = "",
    fleet: Fleet = False,
    overlap: Annotated[
        str, typer.Option("--overlap", help="The old key is good for this yet; 0: it ends at once.")
    ] = "24h",
    reason: Why = "",
    output_format: Output = Format.TEXT,
) -> None:
    """Make a key in another's place, with its name, scopes, rate and life, and print it. Shown this once.

    \b
    Examples:
      chimera key rotate 3f2a91c07b44 --tenant acme
      chimera key rotate 3f2a91c07b44 --tenant acme --overlap 0 --reason "it leaked"
    """
    overlap_s = seconds(overlap, "--overlap")

    async def act(base: Base) -> NewKey:
        owner = await _whose(base, tenant, fleet)
        return await base.api_keys.rotate(
            owner, key_id, uuid.uuid4().hex, by=operator(), overlap_s=overlap_s, reason=reason
        )

    made = at_base(act)
    output.note(f"key {key_id} {'is good for ' + overlap + ' yet' if overlap_s else 'has ended'}")
    _shown_once(made, output_format)


@app.command()
def revoke(
    key_id: KeyId,
    reason: Annotated[str, typer.Option("--reason", help="Why, in words; kept with the act.")],
    tenant: Tenant = "",
    fleet: Fleet = False,
    output_format: Output = Format.TEXT,
) -> None:
    """Take a key away. Every gateway refuses it within a second; requests under way end.

    \b
    Example:
      chimera key revoke 3f2a91c07b44 --tenant acme --reason "it leaked"
    """
    from chimera.store.apikeys import RECOGNISED_S

    async def act(base: Base) -> None:
        owner = await _whose(base, tenant, fleet)
        await base.api_keys.revoke(owner, key_id, uuid.uuid4().hex, by=operator(), reason=reason)

    at_base(act)
    if output_format is Format.JSON:
        return output.document({"key_id": key_id, "within_s": RECOGNISED_S})
    return output.say(f"key {key_id} is revoked: every gateway refuses it within {RECOGNISED_S:g} s")


async def _whose(base: Base, tenant: str, fleet: bool) -> str:
    from chimera.core.scope import FLEET
    from chimera.errors import ConfigurationError

    if bool(tenant) == fleet:
        raise ConfigurationError("say whose key: --tenant NAME, or --fleet")
    if fleet:
        return FLEET
    await base.tenants.require(tenant)
    return tenant


def seconds(text: str, option: str) -> float:
    """``90d``, ``12h``, ``30m``, ``45s`` or ``45`` → seconds.

    Raises:
        ConfigurationError: it is no time.
    """
    from chimera.errors import ConfigurationError

    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip())
    if match is None:
        raise ConfigurationError(f"{option} {text!r} is no time: write 90d, 12h, 30m or 45s")
    return float(int(match[1]) * UNITS[match[2] or "s"])


def _shown_once(made: NewKey, output_format: Format) -> None:
    if output_format is Format.JSON:
        return output.document({**_document(made.record), "api_key": made.key})
    return say_once(made)


def say_once(made: NewKey) -> None:
    """The key alone on stdout, for scripts; what it is, beside it."""
    one = made.record
    ends = f"ends {_at(one.expires_at)}" if one.expires_at else "never ends"
    output.note(f"key {one.key_id} with {', '.join(_scopes(one))}; it {ends}. It is shown this once:")
    output.say(made.key)


def _document(one: KeyRecord) -> dict[str, Any]:
    return {
        "key_id": one.key_id,
        "tenant": one.tenant,
        "name": one.name,
        "scopes": _scopes(one),
        "created_at": _at(one.created_at) or None,
        "expires_at": _at(one.expires_at) or None,
        "used_at": _at(one.used_at) or None,
        "requests_per_s": one.requests_per_s,
    }


def _scopes(one: KeyRecord) -> list[str]:
    from chimera.core.scope import shown

    return list(shown(one.scopes))


def _at(when: float) -> str:
    return datetime.fromtimestamp(int(when), UTC).isoformat() if when else ""
