"""`chimera governor`: the brakes of all tenants. For the operator: it asks Redis, no key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.exits import Exit
from chimera.cli.output import Format, Output
from chimera.cli.store import at_store, operator
from chimera.errors import ChimeraError, ConfigurationError, CorruptRecord, NotFound

if TYPE_CHECKING:
    from chimera.settings import Settings
    from chimera.store.connection import Redis

app = output.group("governor", "Brakes of spend, for the operator: status, freeze, thaw, override.")

Names = Annotated[list[str] | None, typer.Argument(metavar="TENANT...", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="Every tenant.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, in words; it is recorded.", show_default=False)]
OperationId = Annotated[
    str, typer.Option("--operation", help="An id: the same again changes nothing.", show_default=False)
]


@app.command()
def status(names: Names = None, output_format: Output = Format.TEXT) -> None:
    """Where brakes stand, since when and why; burns are multiples of the plan in the short and long window.

    \b
    Examples:
      chimera governor status
      chimera governor status acme -o json
    """
    views, canary = at_store(lambda redis, settings: _status(redis, settings, names or []))
    if output_format is Format.JSON:
        return output.document({"canary": canary, "tenants": views})
    output.table(
        ("TENANT", "STATE", "CAUSE", "SINCE", "BURN", "UNTIL", "BY", "REASON"), [_row(view) for view in views]
    )
    for view in views:
        if "damaged" in view:
            output.note(f"{view['tenant']} cannot be read: {view['damaged']}")
    told = output.say if canary["ok"] else output.note
    return told(f"canary: {canary['detail']}")


@app.command()
def freeze(
    names: Names = None,
    everyone: All = False,
    reason: Reason = "",
    operation: OperationId = "",
    output_format: Output = Format.TEXT,
) -> None:
    """No paid call starts any more, until it is thawed. What is under way ends and is charged.

    \b
    Examples:
      chimera governor freeze acme --reason "a loop in their agent"
      chimera governor freeze --all --reason "the price list is wrong"
    """
    _order("freeze", names, everyone, reason, operation, output_format)


@app.command()
def thaw(
    names: Names = None,
    everyone: All = False,
    reason: Reason = "",
    operation: OperationId = "",
    output_format: Output = Format.TEXT,
) -> None:
    """Paid calls start again; what was spent before is not held against the tenant.

    With --all the failure of a canary is cleared too: see first that limits hold again.

    \b
    Examples:
      chimera governor thaw acme --reason "the agent is mended"
      chimera governor thaw --all --reason "Redis runs our scripts again"
    """
    _order("thaw", names, everyone, reason, operation, output_format)


@app.command()
def override(
    names: Names = None,
    everyone: All = False,
    minutes: Annotated[float, typer.Option("--minutes", min=1, max=1_440, help="How long, from now.")] = 60,
    reason: Reason = "",
    operation: OperationId = "",
    output_format: Output = Format.TEXT,
) -> None:
    """The brake is open, and stays so for a while whatever is spent. The limits hold.

    \b
    Example:
      chimera governor override acme --minutes 90 --reason "the launch is planned"
    """
    _order("override", names, everyone, reason, operation, output_format, minutes * 60)


def _order(
    verb: str,
    names: list[str] | None,
    everyone: bool,
    reason: str,
    operation: str,
    output_format: Format,
    seconds: float = 0,
) -> None:
    if bool(names) == everyone:
        raise ConfigurationError(
            f"say whose brake: `chimera governor {verb} TENANT`, or --all for every tenant"
        )
    if not reason.strip():
        raise ConfigurationError("say why with --reason: it is recorded with the change")

    async def ask(redis: Redis, settings: Settings) -> tuple[list[dict[str, Any]], list[str], set[str]]:
        return await _ordered(redis, settings, verb, names or [], reason, operation, seconds)

    views, failed, unmoved = at_store(ask)
    if output_format is Format.JSON:
        output.document(views)
    else:
        for view in views:
            output.say(f"{view['tenant']}  {_stands(view)}{_UNMOVED if view['tenant'] in unmoved else ''}")
    for said in failed:
        output.note(said)
    if failed:
        output.leave(Exit.FAILED)


async def _ordered(
    redis: Redis,
    settings: Settings,
    verb: str,
    names: list[str],
    reason: str,
    operation: str,
    seconds: float,
) -> tuple[list[dict[str, Any]], list[str], set[str]]:
    """The brakes afterwards, what could not be done, and whose brake stands as it did before."""
    import uuid

    from chimera.store.brakes import BrakeStore, Order

    store, order, failed = BrakeStore(redis), Order(verb), list[str]()
    operation = operation or uuid.uuid4().hex
    tenants = await _tenants(redis, settings, names)
    if order is Order.THAW and not names:
        # First: a canary that fails again meanwhile is a failure of its own, and freezes anew.
        await store.clear_canary()
    before, _ = await _status(redis, settings, tenants)
    for tenant in tenants:
        try:
            await store.order(
                tenant, order, operation, by=operator(), reason=reason, seconds=seconds, of_fleet=True
            )
        except CorruptRecord as exc:  # the others' brakes are moved all the same
            failed.append(f"{tenant}: {exc}")
    views, _ = await _status(redis, settings, tenants)
    stood = {view["tenant"]: _standing(view) for view in before if "damaged" not in view}
    unmoved = {view["tenant"] for view in views if stood.get(view["tenant"]) == _standing(view)}
    return views, failed, unmoved


_UNMOVED = "; nothing was changed"


def _standing(view: dict[str, Any]) -> tuple[Any, ...]:
    """What an order writes of a brake."""
    return tuple(view.get(field) for field in ("state", "cause", "since", "by", "reason", "override_until"))


def _stands(view: dict[str, Any]) -> str:
    until = view.get("override_until")
    return f"{view.get('state', '?')}{f' until {until}, whatever is spent' if until else ''}"


async def _tenants(redis: Redis, settings: Settings, names: list[str]) -> list[str]:
    from chimera.store.tenants import TenantStore

    there = await TenantStore(redis, settings.tenant_quota).names()
    for name in names:
        if name not in there:
            raise NotFound(f"there is no tenant {name!r}: `chimera tenant list` shows them")
    return names or there


async def _status(
    redis: Redis, settings: Settings, names: list[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Each brake as the API shows it, or what of it is damaged; and how the canary is."""
    from chimera.runtime.brakeviews import canary_health, governor_view
    from chimera.store.brakes import BrakeStore

    store, rules = BrakeStore(redis), settings.brake_rules
    tenants = await _tenants(redis, settings, names)
    looks = await store.look(tenants, short_s=rules.short_s, long_s=rules.long_s)
    views = [
        {"tenant": tenant, "damaged": str(look)}
        if isinstance(look, ChimeraError)
        else governor_view(tenant, look, rules).model_dump(mode="json")
        for tenant, look in looks.items()
    ]
    return views, canary_health(await store.canary(), settings.canary_s).model_dump(mode="json")


def _row(view: dict[str, Any]) -> tuple[str, ...]:
    if "damaged" in view:
        return (view["tenant"], "?", *[""] * 6)
    burn = view["burn"]
    rates = f"{burn['burn_short']:g}/{burn['burn_long']:g}" if burn["plan_microusd_per_day"] else "no plan"
    return (
        *(view["tenant"], view["state"], view["cause"], view["since"] or "never", rates),
        *(view["override_until"] or "", view["by"], output.short(view["reason"])),
    )
