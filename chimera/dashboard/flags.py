"""Flags: what limits refused, until somebody says that it is seen."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from chimera.core.report import FlagView
from chimera.core.views import View
from chimera.runtime.base import Base
from chimera.runtime.spending import flag_view
from chimera.store.flags import flags_of

MOST_ROWS = 200


class FlagRow(FlagView):
    """One tenant's flag."""

    tenant: str


class FlagsPanel(View):
    """Flags that nobody has acknowledged."""

    flags: tuple[FlagRow, ...] = Field(description="The last refused first.")
    left_out: int = Field(description="There are so many more.")


async def flags_panel(base: Base, tenants: Sequence[str]) -> FlagsPanel:
    """The flags of these tenants, in one round trip."""
    found = await flags_of(base.redis, tenants)
    rows = [
        FlagRow(tenant=tenant, **dict(flag_view(flag))) for tenant, flags in found.items() for flag in flags
    ]
    rows.sort(key=lambda row: row.last_at, reverse=True)
    return FlagsPanel(flags=tuple(rows[:MOST_ROWS]), left_out=max(0, len(rows) - MOST_ROWS))
