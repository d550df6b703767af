"""docs/http.md is API: what it lists is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI

from chimera.core.views import problem_fields, problem_kind, problem_member
from chimera.serving.gateway.problems import STATUS

TEXT = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")


def test_it_lists_every_path_and_no_other(app: FastAPI) -> None:
    there = {
        f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods
    }
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", TEXT, re.MULTILINE)) == there


def test_it_lists_every_kind_of_error_with_status_and_members() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3} \|.*)\|$", TEXT, re.MULTILINE))
    for error, (status, _) in STATUS.items():
        row = rows.pop(problem_kind(error))
        assert row.startswith(f"{status} |")
        for field in problem_fields(error):
            assert f"`{problem_member(field)}`" in row or problem_member(field) == "detail"
    assert set(rows) == {"no-such-path", "no-such-method", "internal"}
