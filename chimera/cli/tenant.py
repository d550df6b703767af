"""`chimera tenant`: who may use the fleet, and how much of it. For the operator: it asks Redis, no key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from chimera.cli import output
from chimera.cli.output import Format, Output
from chimera.cli.store import at_store

if TYPE_CHECKING:
    from chimera.core.tenant import Quota
    from chimera.settings import Settings
    from chimera.store.connection import Redis
    from chimera.store.tenants import TenantStore

T = TypeVar("T")

app = output.group("tenant", "Tenants and their quotas, for the operator: list, add, quota.")

Name = Annotated[str, typer.Argument(metavar="NAME")]


def ask(question: Callable[[TenantStore], Awaitable[T]]) -> T:
    """Ask one thing of the tenants. Raises as `at_store` does."""
    from chimera.store.tenants import TenantStore

    return at_store(lambda redis, settings: question(TenantStore(redis, settings.tenant_quota)))


@app.command("list")
def list_(output_format: Output = Format.TEXT) -> None:
    """Tenants, each with what it may have at most (0: no bound).

    \b
    Example:
      chimera tenant list
    """

    async def everybody(tenants: TenantStore) -> dict[str, Quota]:
        return await tenants.quotas(await tenants.names())

    found = ask(everybody)
    if output_format is Format.JSON:
        return output.document([{"tenant": name, **quota.model_dump()} for name, quota in found.items()])
    rows = [
        (
            name,
            *(bound(value) for value in (quota.max_agents, quota.max_ready, quota.requests_per_s)),
            str(quota.burst),
            str(quota.weight),
        )
        for name, quota in found.items()
    ]
    return output.table(("TENANT", "MAX AGENTS", "MAX READY", "REQUESTS/S", "BURST", "WEIGHT"), rows)


@app.command()
def add(name: Name, output_format: Output = Format.TEXT) -> None:
    """Make a tenant, and print a new key of its own. The key is shown this once: only its digest is kept.

    For a tenant that exists it is a further key.

    \b
    Example:
      chimera tenant add acme
    """
    from chimera.core.tenant import check_name

    async def make(redis: Redis, _: Settings) -> str:
        from chimera.store.apikeys import ApiKeys, new_key
        from chimera.store.tenants import TenantStore

        await TenantStore(redis).add(check_name(name))
        key = new_key()
        await ApiKeys(redis).let_in(name, key)
        return key

    key = at_store(make)
    if output_format is Format.JSON:
        return output.document({"tenant": name, "api_key": key})
    return output.say(key)


@app.command()
def quota(
    name: Name,
    max_agents: Annotated[int | None, typer.Option(min=0, help="Tasks under lease at once.")] = None,
    max_ready: Annotated[int | None, typer.Option(min=0, help="Unfinished tasks in Redis.")] = None,
    requests_per_s: Annotated[float | None, typer.Option(min=0, help="Requests to the API a second.")] = None,
    burst: Annotated[int | None, typer.Option(min=0, help="Requests at once before that binds.")] = None,
    weight: Annotated[int | None, typer.Option(min=1, help="Its share of scarce worker places.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="What is not given: back to the defaults.")] = False,
    output_format: Output = Format.TEXT,
) -> None:
    """What a tenant may have at most; with options, change it. 0: no bound.

    What a quota does not say has the fleet's default: CHIMERA_TENANT_MAX_AGENTS and its neighbours. A lowered
    bound takes nothing back: it binds what comes next.

    \b
    Examples:
      chimera tenant quota acme
      chimera tenant quota acme --max-agents 200 --weight 3
      chimera tenant quota acme --reset
    """
    import uuid

    given: dict[str, float | None] = {
        "max_agents": max_agents,
        "max_ready": max_ready,
        "requests_per_s": requests_per_s,
        "burst": burst,
        "weight": weight,
    }
    changes = {field: value for field, value in given.items() if value is not None or reset}

    async def change(tenants: TenantStore) -> Quota:
        return await tenants.set_quota(name, changes, uuid.uuid4().hex, by="operator")

    found = ask(change)
    if output_format is Format.JSON:
        return output.document({"tenant": name, **found.model_dump()})
    for field, value in found.model_dump().items():
        output.say(f"{field:<15} {bound(value)}")
    return None


def bound(value: float) -> str:
    """What a tenant may have at most, for people."""
    return f"{value:g}" if value else "no bound"
