"""Whether the hub's parts are well, as people look at them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from chimera.core.views import Health, View

TITLES = {
    "redis": "Redis",
    "orchestrator": "Orchestrator",
    "judge": "Judge",
    "governor": "Governor",
    "canary": "Canary",
    "recorder": "Recorder",
    "retention": "Retention",
    "export": "Export to MCP",
    "model": "Model",
}
"""Parts in the order in which they are shown; one without a title comes last, under its own name."""


class Part(View):
    """One part of the hub."""

    name: str = Field(description="As `/readyz` has it.")
    title: str
    ok: bool
    detail: str = Field(description="Who leads, what is wrong and what to do, or what to know of it.")


class HealthPanel(View):
    """The parts of the hub."""

    ok: bool = Field(description="Every part is well.")
    parts: tuple[Part, ...]


def health_panel(parts: Mapping[str, Health]) -> HealthPanel:
    """The parts, as the probes found them."""
    order = [*(name for name in TITLES if name in parts), *(name for name in parts if name not in TITLES)]
    return HealthPanel(
        ok=all(health.ok for health in parts.values()),
        parts=tuple(
            Part(name=name, title=TITLES.get(name, name), ok=parts[name].ok, detail=parts[name].detail)
            for name in order
        ),
    )
