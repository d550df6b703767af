"""Describes the registered agents, in a process of its own: their modules are imported here, and nowhere in
the hub. ``python -P -m chimera.serving.describing``

It is enclosed as a cell is, and given as little: the settings without any login. One line comes in on its
standard input, `warden.surroundings` and an outfit of nobody's; one goes out, on its standard output:
``{"agents": {…}}``, or ``{"error": …}`` where a module cannot be imported.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from chimera.agents.models.embedded import die_with_parent
from chimera.agents.registry import Registered, Registry
from chimera.errors import ConfigurationError
from chimera.runtime.outfit import Outfit
from chimera.serving.cell import shut
from chimera.telemetry.logs import begin, configure


def about(agent: Registered) -> dict[str, Any]:
    """An agent's catalogue record: JSON."""
    schema = None if agent.options is None else agent.options.model_json_schema()
    return {**asdict(agent.info), "options_schema": schema}


def main() -> None:
    """Read, enclose, import, tell."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the modules print is no answer
    begin("catalogue", "stderr")
    die_with_parent()
    told = json.loads(sys.stdin.readline())
    outfit = Outfit.model_validate(told["outfit"])
    settings = outfit.settings
    configure(settings, role="catalogue", stream="stderr")
    said: dict[str, Any]
    try:
        shut(settings, outfit.reads, apart=told["apart"], path=told["path"])
        registry = Registry.load(settings.agents)
        said = {"agents": {name: about(registry.get(name)) for name in registry}}
    except ConfigurationError as exc:
        said = {"error": str(exc)}
    with answer:
        json.dump(said, answer)


if __name__ == "__main__":
    main()
