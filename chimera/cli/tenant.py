"""`chimera tenant`: who may use the fleet, and how much of it. For the operator: it asks Redis, no key."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.key import say_once
from chimera.cli.output import Format, Output
from chimera.cli.store import at_base, operator

if TYPE_CHECKING:
    from chimera.core.event import Event
    from chimera.errors import CorruptRecord
    from chimera.runtime.base import Base
    from chimera.store.purge import Purged
    from chimera.store.tenants import TenantRecord

app = output.group(
    "tenant",
    "Tenants, for the operator: list, add, get, set, login, suspend, resume, remove, audit, render.",
)

Name = Annotated[str, typer.Argument(metavar="NAME")]
Why = Annotated[str, typer.Option("--reason", help="Why, in words; kept with the act.")]
MustSayWhy = Annotated[str, typer.Option("--reason", help="Why, in words; kept with the act.")]

WIND_UP_S = 60.0
"""What `remove --force` cancels is waited for this long."""
LOOK_S = 0.5


@app.command("list")
def list_(output_format: Output = Format.TEXT) -> None:
    """Tenants, each with what it may have at most (0: no bound).

    \b
    Example:
      chimera tenant list
    """

    async def everybody(base: Base) -> tuple[dict[str, TenantRecord], dict[str, CorruptRecord]]:
        from chimera.store.damage import apart

        return await apart(await base.tenants.names(), base.tenants.records)

    found, damaged = at_base(everybody)
    for name, exc in damaged.items():
        output.note(f"{name} is left out, for it is damaged: {exc}")
    if output_format is Format.JSON:
        return output.document([_document(record) for record in found.values()])
    rows = [
        (
            name,
            *(
                bound(value)
                for value in (one.quota.max_agents, one.quota.max_ready, one.quota.requests_per_s)
            ),
            str(one.quota.burst),
            str(one.quota.weight),
            "spoke" if one.quota.spoke else "hub",
            f"suspended: {output.short(one.reason, 60)}" if one.suspended else "",
        )
        for name, one in found.items()
    ]
    return output.table(
        ("TENANT", "MAX AGENTS", "MAX READY", "REQUESTS/S", "BURST", "WEIGHT", "KEPT BY", ""), rows
    )


@app.command()
def add(name: Name, reason: Why = "", output_format: Output = Format.TEXT) -> None:
    """Make a tenant, and print a first key of its own, which is shown this once: only its digest is kept.

    A tenant that exists stays as it is, and no key is made: `chimera key create` makes a further one.

    \b
    Example:
      chimera tenant add acme
    """
    from chimera.core.scope import USUAL
    from chimera.store.apikeys import NewKey

    async def make(base: Base) -> NewKey | None:
        if not await base.tenants.create(name, by=operator(), reason=reason):
            return None
        return await base.api_keys.create(
            name, uuid.uuid4().hex, by=operator(), scopes=USUAL, name="first", reason=reason
        )

    made = at_base(make)
    if made is None:
        output.note(
            f"tenant {name} exists already; nothing was changed: `chimera key create --tenant {name}`"
        )
    if output_format is Format.JSON:
        key = made and {"api_key": made.key, "key_id": made.record.key_id}
        return output.document({"tenant": name, "made": made is not None, **(key or {})})
    return say_once(made) if made else None


@app.command()
def get(name: Name, output_format: Output = Format.TEXT) -> None:
    """One tenant: what it may have at most, its limits of money, whether it is suspended.

    \b
    Example:
      chimera tenant get acme
    """

    async def look(base: Base) -> tuple[TenantRecord, dict[str, int]]:
        await base.tenants.require(name)
        return await base.tenants.record(name), await base.of(name).ledger.limits()

    return _show(*at_base(look), output_format)


@app.command("set")
def set_(
    name: Name,
    max_agents: Annotated[int | None, typer.Option(min=0, help="Tasks under lease at once.")] = None,
    max_ready: Annotated[int | None, typer.Option(min=0, help="Unfinished tasks in Redis.")] = None,
    requests_per_s: Annotated[float | None, typer.Option(min=0, help="Requests to the API a second.")] = None,
    burst: Annotated[int | None, typer.Option(min=0, help="Requests at once before that binds.")] = None,
    weight: Annotated[int | None, typer.Option(min=1, help="Its share of scarce worker places.")] = None,
    spoke: Annotated[
        bool | None,
        typer.Option("--spoke/--no-spoke", help="Its workers are kept by its spoke, or by the hub."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit", help="LEVEL=USD, or LEVEL=none to remove it; may be given again.", metavar="LEVEL=USD"
        ),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Bounds not given: back to the defaults.")] = False,
    reason: Why = "",
    output_format: Output = Format.TEXT,
) -> None:
    """Change what a tenant may have at most (0: no bound), and its limits of money. It binds at once.

    What a quota does not say has the fleet's default: CHIMERA_TENANT_MAX_AGENTS and its neighbours. A lowered
    bound takes nothing back: it binds what comes next. Raising or removing a limit needs a --reason.
    Who keeps its workers is no bound: --reset leaves that alone.

    \b
    Examples:
      chimera tenant set acme --max-agents 200 --weight 3
      chimera tenant set acme --reset
      chimera tenant set acme --limit day=5 --limit agent/summarise/day=1
      chimera tenant set acme --limit day=none --reason "contract 17"
      chimera tenant set acme --spoke
    """
    given: dict[str, float | None] = {
        "max_agents": max_agents,
        "max_ready": max_ready,
        "requests_per_s": requests_per_s,
        "burst": burst,
        "weight": weight,
        "spoke": spoke,
    }
    # Whose its workers are is no bound: to hand them over is said by itself.
    changes = {
        field: value for field, value in given.items() if value is not None or (reset and field != "spoke")
    }
    levels = limit_changes(limit or ())
    if not changes and not levels:
        from chimera.errors import ConfigurationError

        raise ConfigurationError(
            f"nothing was asked to change: give a bound, --limit or --reset; `chimera tenant get {name}` "
            "shows what it has"
        )

    async def change(base: Base) -> tuple[TenantRecord, dict[str, int]]:
        await base.tenants.require(name)
        if levels:
            await change_limits(base, name, levels, reason)
        if changes:
            await base.tenants.set_quota(name, changes, uuid.uuid4().hex, by=operator(), reason=reason)
        return await base.tenants.record(name), await base.of(name).ledger.limits()

    return _show(*at_base(change), output_format)


@app.command()
def login(name: Name, output_format: Output = Format.TEXT) -> None:
    """Print the Redis URL that the tenant's spoke logs in with: a secret, with which one acts as the tenant.

    Give it to that tenant's `chimera spoke` alone, as a file (CHIMERA_REDIS_URL_FILE). It is derived from the
    fleet's master secret and kept nowhere; it changes with CHIMERA_REDIS_GENERATION. Its host is that of this
    command's own CHIMERA_REDIS_URL: it must be one that the spoke reaches.

    \b
    Examples:
      chimera tenant login acme > redis-url
      chimera tenant login acme -o json
    """
    from chimera.errors import ConfigurationError
    from chimera.store.connection import url
    from chimera.store.users import as_role, user_of

    async def look(base: Base) -> tuple[str, bool]:
        await base.tenants.require(name)
        if base.settings.redis_users == "single":
            raise ConfigurationError(
                "under CHIMERA_REDIS_USERS=single nobody has a login of its own, so no tenant can have a "
                "spoke: set it to roles, with CHIMERA_REDIS_SECRET, as for the hub"
            )
        return url(as_role(base.settings, "spoke", name)), (await base.tenants.quota(name)).spoke

    address, asked = at_base(look)
    if not asked:
        output.note(
            f"the hub keeps the workers of {name} yet: `chimera tenant set {name} --spoke` changes that"
        )
    if output_format is Format.JSON:
        return output.document({"tenant": name, "user": user_of("spoke", name), "redis_url": address})
    return output.say(address)


@app.command()
def suspend(name: Name, reason: MustSayWhy, output_format: Output = Format.TEXT) -> None:
    """Suspend a tenant: nothing of it is submitted, claimed or reserved; it may still read. Twice is fine.

    What is under way ends and is paid for; work that is ready waits.

    \b
    Example:
      chimera tenant suspend acme --reason "invoice 12 is open"
    """

    async def act(base: Base) -> tuple[bool, TenantRecord]:
        done = await base.tenants.suspend(name, uuid.uuid4().hex, by=operator(), reason=reason)
        return done, await base.tenants.record(name)

    done, record = at_base(act)
    if output_format is Format.JSON:
        return output.document(_document(record))
    return output.say(f"{name} is suspended" + ("" if done else " already; nothing was changed"))


@app.command()
def resume(name: Name, reason: Why = "", output_format: Output = Format.TEXT) -> None:
    """Let a suspended tenant go on. Twice is fine.

    \b
    Example:
      chimera tenant resume acme --reason "invoice 12 is paid"
    """

    async def act(base: Base) -> tuple[bool, TenantRecord]:
        done = await base.tenants.resume(name, uuid.uuid4().hex, by=operator(), reason=reason)
        return done, await base.tenants.record(name)

    done, record = at_base(act)
    if output_format is Format.JSON:
        return output.document(_document(record))
    return output.say(f"{name} goes on" if done else f"{name} was not suspended; nothing was changed")


@app.command()
def remove(
    name: Name,
    reason: MustSayWhy,
    force: Annotated[bool, typer.Option("--force", help="Cancel what is open.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete its missions and all their content too, for good.")
    ] = False,
    output_format: Output = Format.TEXT,
) -> None:
    """Remove a tenant: its keys, quota and limits go. Its missions and recorder stay.

    Refused while work of it is open, unless --force cancels it. A tenant of that name that is added later
    finds what this one left: give a name to nobody else. With --purge inputs, results, uploads, archived
    missions and all of Redis but its flight recorder go too, also of a tenant that was removed before;
    `chimera recorder verify --tenant NAME` still follows the recorder's chain. Ask again if it is cut short.

    \b
    Examples:
      chimera tenant remove acme --reason "contract ended"
      chimera tenant remove acme --force --reason "contract ended"
      chimera tenant remove acme --purge --reason "asked to be forgotten"
    """
    from chimera.errors import Conflict

    operation, until = uuid.uuid4().hex, time.monotonic() + WIND_UP_S

    async def act(base: Base) -> None:
        import asyncio

        while True:
            try:
                return await base.tenants.wind_up(name, operation, by=operator(), reason=reason, force=force)
            except Conflict:
                if not force or time.monotonic() > until:
                    raise
                await asyncio.sleep(LOOK_S)  # the hub ends it in its own time, and tells nobody

    async def both(base: Base) -> Purged | None:
        from chimera.core.tenant import check_name
        from chimera.store.purge import purge as delete

        if not purge or name in await base.tenants.names():
            await act(base)
        if not purge:
            return None
        tenant = check_name(name)
        return await delete(base.redis, base.blobs, tenant, operation, by=operator(), reason=reason)

    purged = at_base(both)
    if output_format is Format.JSON:
        return output.document({"tenant": name, "removed": True, "purged": purged is not None})
    said = "" if purged is None else f"; {output.counted(purged.folders, 'folder')} of its content deleted"
    return output.say(f"{name} is removed{said}")


@app.command()
def audit(
    name: Annotated[str, typer.Argument(metavar="[NAME]")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
    output_format: Output = Format.TEXT,
) -> None:
    """Administrative acts on a tenant, also on one that was removed; without a name on the fleet's own keys.

    \b
    Examples:
      chimera tenant audit acme
      chimera tenant audit -o json
    """

    async def look(base: Base) -> list[Event]:
        return await _acts(base, name, limit)

    events = at_base(look)
    if output_format is Format.JSON:
        return output.document(events)
    rows = [
        (
            event.at.astimezone(UTC).isoformat(timespec="seconds"),
            event.kind,
            event.by,
            output.short(str(event.details.get("reason", "")), 60),
            output.short({key: value for key, value in event.details.items() if key != "reason"}, 200),
        )
        for event in events
    ]
    return output.table(("AT", "ACT", "BY", "REASON", "WHAT"), rows)


async def _acts(base: Base, name: str, most: int) -> list[Event]:
    from chimera.core.event import BEGINNING, Position
    from chimera.core.tenant import check_name

    found: list[Event] = []
    if not name:
        after: str | None = ""
        while after is not None:
            events, after = await base.audit.of_fleet(after=after)
            found = [*found, *events][-most:]
        return found
    recorder, at = base.of(check_name(name)).recorder, BEGINNING
    reached: Position | None = at
    while reached is not None:
        events, reached = await base.audit.of_tenant(recorder, after=reached)
        found = [*found, *events][-most:]
    return found


def _show(record: TenantRecord, limits: Mapping[str, int], output_format: Format) -> None:
    if output_format is Format.JSON:
        return output.document({**_document(record), "limits_microusd": dict(limits)})
    from chimera.core.money import usd

    for field, value in record.quota.model_dump().items():
        output.say(f"{field:<15} {('no', 'yes')[value] if isinstance(value, bool) else bound(value)}")
    for level, amount in limits.items():
        output.say(f"limit {level}  {usd(amount)}")
    if record.suspended:
        output.say(f"suspended       since {_at(record)}: {record.reason or 'no reason given'}")
    return None


def _document(record: TenantRecord) -> dict[str, Any]:
    return {
        "tenant": record.name,
        **record.quota.model_dump(),
        "suspended_at": _at(record) if record.suspended else None,
        "suspended_reason": record.reason,
    }


def _at(record: TenantRecord) -> str:
    return datetime.fromtimestamp(record.suspended_at_us / 1e6, UTC).isoformat(timespec="seconds")


def bound(value: float) -> str:
    """What a tenant may have at most, for people."""
    return f"{value:g}" if value else "no bound"


async def change_limits(base: Base, name: str, changes: Mapping[str, int | None], reason: str) -> None:
    """Change a tenant's limits.

    Raises:
        ConfigurationError: one is raised or removed, and nobody says why.
    """
    from chimera.core.limitchange import raised
    from chimera.errors import ConfigurationError

    ledger = base.of(name).ledger
    if (more := raised(await ledger.limits(), changes)) and not reason.strip():
        raise ConfigurationError(f"this raises or removes {', '.join(more)}: say why with --reason")
    await ledger.change_limits(changes, uuid.uuid4().hex, by=operator(), reason=reason)


def limit_changes(given: Sequence[str]) -> dict[str, int | None]:
    """``["day=5", "model/m/hour=none"]`` → µ$ by level, None to remove it.

    Raises:
        ConfigurationError: no such level, or no amount.
    """
    from chimera.core.money import parse_limits
    from chimera.errors import ConfigurationError

    changes: dict[str, int | None] = {}
    for one in given:
        level, _, amount = one.rpartition("=")
        gone = amount.strip().lower() == "none"
        try:
            (parsed,) = parse_limits(f"{level}=0" if gone else one).items()
        except ValueError as exc:
            raise ConfigurationError(f"--limit {one!r} cannot be: {exc}") from exc
        changes[str(parsed[0])] = None if gone else parsed[1]
    return changes
