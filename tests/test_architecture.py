"""The shape of the tree: layers, rooms, and what each may know.

The layers themselves, and who may import Ray and Redis, are import-linter's contracts in
pyproject.toml; the gate runs them. Here stands what it cannot say.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "chimera"
MODULES = sorted(PACKAGE.rglob("*.py"))

# The values decide from what they are given: no I/O, no clock, no chance.
CORE_MAY_IMPORT = {"chimera", "pydantic", "pydantic_core", "annotated_types"}
CORE_MAY_NOT_IMPORT = {
    *("asyncio", "concurrent", "multiprocessing", "os", "pathlib", "random", "secrets"),
    *("shutil", "socket", "subprocess", "tempfile", "threading", "time", "urllib", "uuid"),
}
CLOCK_READS = {"now", "utcnow", "today"}
MEANINGLESS = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}


def name(module: Path) -> str:
    return str(module.relative_to(ROOT))


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def core() -> list[Path]:
    return [module for module in MODULES if module.is_relative_to(PACKAGE / "core")]


@pytest.mark.parametrize("module", core(), ids=name)
def test_core_imports_only_the_standard_library_and_pydantic(module: Path) -> None:
    roots = {imported.partition(".")[0] for imported in imports(module)}
    assert roots - sys.stdlib_module_names <= CORE_MAY_IMPORT
    assert not roots & CORE_MAY_NOT_IMPORT


@pytest.mark.parametrize("module", core(), ids=name)
def test_core_reads_no_clock(module: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
    assert not [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in CLOCK_READS]


def test_every_package_of_the_tree_stands_in_a_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    layers = {layer.strip(" ()") for row in rows for layer in row.split("|")}
    packages = {f"chimera.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")}
    assert packages <= layers


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {module.parent for module in MODULES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_a_file_is_named_by_its_noun() -> None:
    assert [name(module) for module in MODULES if module.stem in MEANINGLESS] == []


@pytest.mark.parametrize("folder", ["docker", "kuberay"])
def test_a_folder_of_manifests_holds_no_module(folder: str) -> None:
    """It would be importable as a package and shadow a real one."""
    assert list((ROOT / folder).rglob("*.py")) == []


def test_lua_lives_in_files_of_its_own() -> None:
    assert [name(m) for m in MODULES if "redis.call(" in m.read_text(encoding="utf-8")] == []


CALENDAR = re.compile(r"datetime\.now|utcnow|time\.time\b|time_ns|CLOCK_REALTIME|localtime|gmtime")
DECIDING = [("core",), ("store",), ("agents",), ("judging",), ("runtime",)]


def test_what_decides_reads_no_calendar_of_its_own() -> None:
    """Instants are the store's; durations are measured on a clock that nobody corrects."""
    reading = [
        name(module)
        for module in MODULES
        if module.parent.relative_to(PACKAGE).parts[:1] in DECIDING
        and CALENDAR.search(module.read_text(encoding="utf-8"))
    ]
    # `ctx.deadline`, which agents read; and since when an archive is ill, told to people.
    assert reading == ["chimera/runtime/executor.py", "chimera/runtime/troubles.py"]


HEAVY = {"ray", "redis", "pydantic_ai", "fastapi", "xllamacpp", "jsonschema", "genai_prices", "re2"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after running the code."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.acceptance
def test_the_base_package_needs_no_extra() -> None:
    """`import chimera`, and every public name, load with the base dependencies alone."""
    everything = "import chimera\nfor name in chimera.__all__: getattr(chimera, name)"
    assert not loaded_by(everything) & HEAVY


@pytest.mark.acceptance
def test_importing_chimera_loads_next_to_nothing() -> None:
    assert not loaded_by("import chimera") & (HEAVY | {"httpx", "pydantic", "rich", "typer"})


@pytest.mark.acceptance
def test_the_command_line_starts_without_ray() -> None:
    assert "ray" not in loaded_by("import chimera.cli.main")


EXCUSE = re.compile(r"#\s*(?:noqa\b|type:\s*ignore\b|nosec\b|pragma: no cover)(?P<rest>.*)$")
CODES = re.compile(r"\[[\w, -]+\]|\b[A-Z]+\d+\b")


def test_whatever_a_tool_is_told_to_let_pass_has_its_reason_beside_it() -> None:
    unexplained = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("bench", "bin", "chimera", "examples", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := EXCUSE.search(line)) and len(re.findall("[a-z]", CODES.sub("", found["rest"]))) < 6
    ]
    assert unexplained == []
