"""What a run of the benchmark writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import report
from bench.figure import Figure, percentile


def test_a_run_leaves_its_figures_and_a_picture_of_those_with_a_bar(tmp_path: Path) -> None:
    figures = [
        Figure("B1", "tasks a second", 5_000, "/s", 4_000, most=False),
        Figure("B3", "p99", 80, "ms", 50),
        Figure("B5", "only told", 1, "s"),
    ]
    report.write(figures, tmp_path)
    told = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert [one["reached"] for one in told["figures"]] == [True, False, None]
    assert told["cores"] >= 1
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["B1.png", "B3.png"]


def test_what_ran_again_takes_the_place_of_its_older_figures(tmp_path: Path) -> None:
    assert report.read(tmp_path) == []
    report.write(
        [Figure("B1", "a", 1, "s", 2), Figure("B1", "b", 1, "s"), Figure("B3", "c", 1, "s")], tmp_path
    )
    known = report.renewed(report.read(tmp_path), [Figure("B1", "a", 3, "s", 2, method="again")])
    assert known == [Figure("B1", "a", 3, "s", 2, method="again"), Figure("B3", "c", 1, "s")]


def test_a_percentile_is_a_value_that_was_seen() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0, 2.0], 0.99) == 2.0


def test_what_is_published_stands_between_its_marks_and_the_rest_stays(tmp_path: Path) -> None:
    page = "# Page\n\n<!-- bench: python -m bench --publish -->\nold\n<!-- /bench -->\n\nthe end\n"
    (tmp_path / "performance.md").write_text(page, encoding="utf-8")
    figures = [Figure("B3", "p99", 80, "ms", 50, method="alone")]
    for _ in range(2):
        report.publish(figures, "Measured here.", tmp_path)
    told = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert told.startswith("# Page\n")
    assert told.endswith("\n\nthe end\n")
    assert "old" not in told
    assert told.count("| B3 | p99 (alone) | 80 ms | ≤ 50 ms | **missed** |") == 1


def test_a_page_without_its_marks_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scale.md").write_text("nothing marked", encoding="utf-8")
    with pytest.raises(ValueError, match="no place marked 'scale'"):
        report.publish([Figure("B8", "x", 1, "s")], "", tmp_path)
    assert (tmp_path / "scale.md").read_text(encoding="utf-8") == "nothing marked"
