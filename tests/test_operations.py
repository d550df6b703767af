"""The on-call pages name what there is: alerts, parts, metrics, events and lines of the log."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from chimera.cli.doctor import ADVICE
from chimera.core.event import KINDS
from chimera.telemetry.metrics import METRICS

ROOT = Path(__file__).parents[1]
PAGES = ("docs/operations.md", "docs/security.md", "docs/verified.md")
SPAN = re.compile(r"`([^`\n]+)`")
TOLD = re.compile(r"[a-z]+\.[a-z_]+")
FILES = {".crt", ".judge", ".key", ".lock", ".secret", ".sh", ".token"}
"""What is behind the dot of a file, or of a user of Redis."""
each_page = pytest.mark.parametrize("name", PAGES)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def code() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "chimera").rglob("*.py"))


def test_every_alert_leads_to_a_section() -> None:
    rules = yaml.safe_load(page("docs/grafana/alerts.yaml"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    rows = [row for row in page("docs/operations.md").splitlines() if row.startswith("|")]
    assert {alert for alert in alerts if any(f"`{alert}`" in row for row in rows)} == alerts
    assert set(re.findall(r"`(Chimera[A-Z]\w+)`", page("docs/operations.md"))) == alerts


def test_every_part_that_doctor_has_advice_on_is_named() -> None:
    text = page("docs/operations.md")
    assert {part for part in ADVICE if f"`{part}`" not in text} == set()


@each_page
def test_every_metric_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"\bchimera_[a-z_]+[a-z]\b", page(name)))
    assert named <= {metric.name for metric in METRICS}


@each_page
def test_every_event_and_line_of_the_log_that_is_named_is_written_by_the_code(name: str) -> None:
    told = {span for span in SPAN.findall(page(name)) if TOLD.fullmatch(span)}
    named = {one for one in told if not any(map(one.endswith, FILES))}
    assert {one for one in named if one not in KINDS and f'"{one}"' not in code()} == set()
