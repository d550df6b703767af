"""What a drill leaves behind: the recorder's events, the store's last word, and the witnesses' journals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from chimera.core.audit import Cut
from chimera.core.event import Event

CLOCKS_S = 0.05
"""Store and witnesses share a machine and its clock; this much is left for reading it."""


class MissionEnd(BaseModel):
    """A mission as the store has it when all is quiet."""

    model_config = ConfigDict(frozen=True)

    mission_id: str
    status: str
    total_tasks: int
    counts: dict[str, int]
    budget_microusd: int
    settled_microusd: int
    held_microusd: int


class TenantEnd(BaseModel):
    """One tenant when all is quiet.

    Attributes:
        results: accepted results by task, as the API gives them.
        verdicts: accepting verdicts by task.
        actions: the status of each accepted action, by its id.
        archived: events in the recorder's archive.
        breaks: where its hash chain does not hold, in words.
        ledger: all of it, in cuts, each with the recorder's last entry at that instant.
    """

    model_config = ConfigDict(frozen=True)

    events: tuple[Event, ...]
    missions: tuple[MissionEnd, ...]
    results: dict[str, int]
    verdicts: dict[str, int]
    archived: int = 0
    breaks: tuple[str, ...] = ()
    held_microusd: int
    open_holds: int
    actions: dict[str, str] = {}
    ledger: tuple[Cut, ...] = ()


class History(BaseModel):
    """Everything a checker needs.

    Attributes:
        acknowledged: the clients' journal: ``at, tenant, mission_id, tasks``.
        calls: the endpoint's journal: ``at, task, event`` (served | refused).
        hooks: what the webhook's receiver took: ``at, task, key``.
        faults: the nemesis' journal: ``at, fault, target, until``.
        rests: who watched workers go: ``at, tenant, event`` (idle | zero); idle_s with the first.
        probes: what agents that mean harm tried: ``at, task, tenant, login, what, outcome``.
        strangers: keys in Redis that are neither a tenant's nor the fleet's.
        denied: (user, what) that Redis denied a part of the hub.
    """

    model_config = ConfigDict(frozen=True)

    tenants: dict[str, TenantEnd]
    acknowledged: tuple[dict[str, Any], ...]
    calls: tuple[dict[str, Any], ...]
    faults: tuple[dict[str, Any], ...]
    hooks: tuple[dict[str, Any], ...] = ()
    rests: tuple[dict[str, Any], ...] = ()
    probes: tuple[dict[str, Any], ...] = ()
    strangers: tuple[str, ...] = ()
    denied: tuple[tuple[str, str], ...] = ()

    def keep(self, path: Path) -> None:
        """Write it for `chimera chaos check`."""
        path.write_text(self.model_dump_json(), encoding="utf-8")

    @classmethod
    def kept(cls, path: Path) -> History:
        """Read it back."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
