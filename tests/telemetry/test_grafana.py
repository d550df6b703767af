"""The dashboard and the alert rules ask only for metrics, labels and values that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from chimera.telemetry.metrics import BY_NAME, METRICS, Metric

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "chimera.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = yaml.safe_load((GRAFANA / "alerts.yaml").read_text(encoding="utf-8"))["groups"][
    0
]["rules"]
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

FUNCTIONS = {
    "absent",
    "deriv",
    "histogram_quantile",
    "increase",
    "max",
    "min_over_time",
    "rate",
    "sum",
    "topk",
}
WORDS = {"and", "by"}
SELECTED = re.compile(r"(\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
EACH_LINE = "|".join(("_bucket", "_count", "_sum"))


class Query(NamedTuple):
    """One expression, and the labels that its legend or its annotations name."""

    where: str
    text: str
    shown: set[str]


def queries() -> Iterator[Query]:
    for panel in PANELS:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            yield Query(panel["title"], target["expr"], shown)
    for rule in RULES:
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        yield Query(rule["alert"], rule["expr"], shown)
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert asked
            yield Query(variable["name"], asked[1], {asked[2]})


each_query = pytest.mark.parametrize("query", list(queries()), ids=lambda query: query.where)


def metric_of(name: str) -> Metric | None:
    """The metric that a name in a query is of: a histogram is asked for by its lines alone."""
    base = re.sub(rf"({EACH_LINE})$", "", name)
    metric = BY_NAME.get(base)
    if metric is None or (metric.kind == "histogram") == (base == name):
        return None
    return metric


def wrong(text: str, shown: set[str]) -> list[str]:
    """What of a query there is not."""
    said, labels = [], set()
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]|\{[^}]*\}', " ", GROUPED.sub(" ", text))
    names = [name for name in re.findall(r"\b[A-Za-z_]\w*", bare) if name not in FUNCTIONS | WORDS]
    for name in names:
        metric = metric_of(name)
        if metric is None:
            said.append(f"no metric {name}")
        else:
            labels |= {*metric.labels, *({"le"} if name.endswith("_bucket") else ())}
    for name, selectors in SELECTED.findall(text):
        metric = metric_of(name)
        left = MATCHER.sub("", selectors).strip(", ")
        said += [f"{name}: {left!r} is no matcher"] if left else []
        for label, operator, value in MATCHER.findall(selectors):
            if metric is None or label not in metric.labels:
                said.append(f"{name} has no label {label}")
            elif label in metric.values and not value.startswith("$"):
                asked = value.split("|") if "~" in operator else [value]
                said += [
                    f"{name}: {label} is never {one}" for one in asked if one not in metric.values[label]
                ]
    grouped = {label for group in GROUPED.findall(text) for label in group.split(", ")}
    said += [f"no label {label}" for label in (grouped | shown) - labels]
    outermost = GROUPED.search(text)
    if outermost and not text.startswith(("histogram_quantile", "topk")):
        said += [f"{label} is summed away" for label in shown - set(outermost[1].split(", "))]
    return said


@each_query
def test_a_query_asks_for_what_there_is(query: Query) -> None:
    assert wrong(query.text, query.shown) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sum(chimera_unheard_of)", set()),
        ("sum(node_load1)", set()),
        ('rate(chimera_tasks_total{state="accepted"}[5m])', set()),
        ('rate(chimera_tasks_total{status="ACCEPTED"}[5m])', set()),
        ('max(chimera_slots{state=~"busy|lazy"})', set()),
        ("rate(chimera_slo_seconds[5m])", set()),
        ("rate(chimera_workers_bucket[5m])", set()),
        ("sum by (priority) (chimera_workers)", set()),
        ("sum(chimera_workers)", {"mission"}),
        ("sum by (state) (chimera_slots)", {"tenant"}),
        ('max(chimera_slots{state~"busy"})', set()),
    ],
)
def test_a_query_that_asks_for_anything_else_is_found(text: str, shown: set[str]) -> None:
    assert wrong(text, shown)


def test_every_metric_is_on_the_dashboard() -> None:
    text = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    assert [metric.name for metric in METRICS if metric.name not in text] == []


def test_the_dashboard_has_a_row_for_each_matter_and_panels_do_not_overlap() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Fleet",
        "High priority and latency",
        "Throughput",
        "Costs",
        "Brakes",
        "Recorder and archives",
    ]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_a_rule_says_what_is_wrong_how_bad_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "action"}
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
    asked = " ".join(rule["expr"] for rule in RULES)
    for name in ("slo_seconds", "canary_well", "archive_failures", "part_well", "limit_settled_microusd"):
        assert f"chimera_{name}" in asked
