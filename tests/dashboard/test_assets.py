"""What pages load: ours in the wheel, others' as they were taken, nothing inline."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import chimera.dashboard
from chimera.dashboard.assets import assets

ROOT = Path(chimera.dashboard.__file__).parent
VENDOR = ROOT / "static" / "vendor"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


def test_vendored_files_are_those_of_the_table() -> None:
    table = (VENDOR / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|$", table, re.MULTILINE))
    there = {
        str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.suffix in {".js", ".css"}
    }
    assert there == rows
    third_party = (ROOT.parents[1] / "THIRD_PARTY.md").read_text(encoding="utf-8")
    for name in rows:
        folder = (VENDOR / name).parent
        assert (folder / "LICENSE").is_file()
        assert f"`chimera/dashboard/static/vendor/{folder.name}`" in third_party


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_has_no_script_style_or_handler_of_its_own(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:|hx-on|hx-vals|\|\s*safe", text
    )


def test_every_file_that_a_page_names_is_there() -> None:
    for path in TEMPLATES:
        for name in re.findall(r"asset\('([^']+)'\)", path.read_text(encoding="utf-8")):
            assert assets().address(name)


def test_the_address_of_a_file_that_is_not_is_an_error() -> None:
    with pytest.raises(KeyError):
        assets().address("none.css")
