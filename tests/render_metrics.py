"""The table of docs/metrics.md, from the metrics in the code: `python -m tests.render_docs` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from chimera.telemetry.metrics import METRICS, Metric

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
BETWEEN = re.compile(r"(?<=<!-- metrics -->\n).*?(?=<!-- /metrics -->)", re.DOTALL)


def rendered(page: str) -> str:
    """The page with its table made anew."""
    return BETWEEN.sub(lambda _: table(), page)


def table() -> str:
    """A row for each metric."""
    lines = ["| Name | Kind | Labels | Meaning |", "|---|---|---|---|"]
    lines += [f"| `{one.name}` | {one.kind} | {_labels(one)} | {one.meaning} |" for one in METRICS]
    return "\n".join([*lines, ""])


def _labels(metric: Metric) -> str:
    said = []
    for label in metric.labels:
        values = ", ".join(f"`{value}`" for value in metric.values.get(label, ()))
        said.append(f"`{label}`: {values}" if values else f"`{label}`")
    return "; ".join(said)
