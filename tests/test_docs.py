"""The documents say what is so: links, commands, settings, paths, figures and tables are checked."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
import yaml
from pydantic import BaseModel
from typer.core import TyperGroup

from chimera.cli.app import app
from chimera.cli.exits import Exit
from chimera.core.mission import MissionFile
from chimera.judging.detector.measure import load, measure, table
from chimera.settings import PREFIX, Settings, is_secret
from chimera.store import keys
from tests import render_settings
from tests.render_docs import STATE_MACHINE, render

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "AGENTS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

BLOCK = re.compile(
    r"^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
SPAN = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"^\s*(?:[A-Z_]+=\S+ +)*(?:uv run )?(?:\.venv/bin/)?chimera +(\S.*)$")
VARIABLE = re.compile(rf"\b{PREFIX}[A-Z_]*[A-Z]\b")
MODULE = re.compile(r"python -m (chimera[\w.]*|tests[\w.]*)")
ROW = re.compile(r"^\| ([^|]+) \| ([\d.,]+)(?: (KiB|MiB|s))? \| `([\w.]+)` \|$", re.MULTILINE)
OURS = re.compile(r"(?:chimera|docs|examples|tests|bin)/[\w./-]*")
UNITS = {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20}


def prose(path: Path) -> str:
    """A document without its code blocks."""
    return BLOCK.sub("", path.read_text(encoding="utf-8"))


def code(path: Path) -> Iterator[str]:
    """Everything of a document that is typed somewhere: lines of shell blocks, indented lines, spans."""
    text = path.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        if block["language"] in {"", "sh"}:
            yield from block["code"].splitlines()
    plain = prose(path)
    yield from re.findall(r"^ {4}(\S.*)$", plain, re.MULTILINE)
    yield from SPAN.findall(plain)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@each_document
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for target, anchor in LINK.findall(prose(path)):
        linked = (path.parent / target).resolve() if target else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(linked), re.MULTILINE)
            assert anchor in map(slug, headings), f"{target}#{anchor}"


@each_document
def test_every_command_and_flag_is_real(path: Path) -> None:
    for line in code(path):
        if matched := COMMAND.match(line):
            assert problem(matched[1]) is None, f"{line}: {problem(matched[1])}"


def problem(arguments: str) -> str | None:
    """What the command line would not know of ``chimera ARGUMENTS``, as documents write it."""
    # What follows is said about the command, not typed: a comment, an alternative, a gap.
    typed = re.split(r"\s#|\s\||\s·|\s{2,}|…$", arguments.translate(str.maketrans("", "", "[]")))[0]
    command: Any = typer.main.get_command(app)
    words = shlex.split(typed)
    while (
        isinstance(command, TyperGroup) and words and not words[0].startswith("-") and not words[0].isupper()
    ):
        name = words.pop(0)
        if name not in command.commands:
            return f"there is no {name!r}"
        command = command.commands[name]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help", "-h"}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"{command.name} has no {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("arguments", ["walk", "mission fly", "up --wings", "run m.yaml --strict --twice"])
def test_an_invented_command_or_flag_is_noticed(arguments: str) -> None:
    assert problem(arguments) is not None


@each_document
def test_every_variable_is_a_setting(path: Path) -> None:
    assert set(VARIABLE.findall(path.read_text(encoding="utf-8"))) <= variables()


@cache
def variables() -> set[str]:
    names = {f"{PREFIX}{name.upper()}": field for name, field in Settings.model_fields.items()}
    return set(names) | {f"{name}_FILE" for name, field in names.items() if is_secret(field)}


@each_document
def test_every_variable_of_the_stack_is_one_that_it_asks_for(path: Path) -> None:
    asked = re.findall(r"\$\{(STACK_\w+)", (ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))
    assert set(re.findall(r"\bSTACK_\w+", path.read_text(encoding="utf-8"))) <= set(asked)


@each_document
def test_every_module_that_is_run_exists(path: Path) -> None:
    for module in MODULE.findall(path.read_text(encoding="utf-8")):
        assert importlib.util.find_spec(module) is not None, module


@each_document
def test_every_example_of_python_or_of_a_mission_is_valid(path: Path) -> None:
    for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
        if block["language"] == "python":
            compile(block["code"], path.name, "exec")
        if block["language"] == "yaml" and block["code"].startswith("goal:"):
            MissionFile.model_validate(yaml.safe_load(block["code"]))


@each_document
def test_every_make_target_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {match[1] for line in code(path) if (match := re.match(r"make ([a-z-]+)", line.strip()))}
    assert named <= targets


@each_document
def test_every_path_that_prose_names_exists(path: Path) -> None:
    named = {span for span in SPAN.findall(prose(path)) if OURS.fullmatch(span)}
    assert {name for name in named if not (ROOT / name).exists()} == set()


class Figure(NamedTuple):
    """A row of a table of limits."""

    what: str
    value: float
    source: str


def figures(name: str) -> list[Figure]:
    rows = ROW.findall((ROOT / name).read_text(encoding="utf-8"))
    return [
        Figure(what, float(number.replace(",", "")) * UNITS[unit], source)
        for what, number, unit, source in rows
    ]


FIGURES = [*figures("README.md"), *figures("docs/limits.md")]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: f"{figure.source}-{figure.what}"[:60])
def test_a_limit_has_the_figure_of_the_code(figure: Figure) -> None:
    assert figure.value == in_code(figure.source)


def in_code(source: str) -> float:
    """The value that a row's last cell names: a setting's default, a constant, or a model's bound."""
    if source.startswith(PREFIX):
        return float(Settings.model_fields[source.removeprefix(PREFIX).lower()].default)
    owner, _, name = source.rpartition(".")
    try:
        home: Any = importlib.import_module(owner)
    except ModuleNotFoundError:
        module, _, type_name = owner.rpartition(".")
        home = getattr(importlib.import_module(module), type_name)
    if isinstance(home, type) and issubclass(home, BaseModel):
        return float(greatest(home.model_json_schema()["properties"][name]))
    return float(getattr(home, name))


def greatest(schema: dict[str, Any]) -> float:
    """The upper bound that a field's JSON Schema states."""
    for part in (schema, *schema.get("anyOf", ())):
        for bound in ("maximum", "maxLength", "maxItems"):
            if bound in part:
                return float(part[bound])
    raise AssertionError(f"no upper bound in {schema}")


def test_every_row_of_the_limits_is_checked() -> None:
    text = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
    rows = [
        line for line in text.splitlines() if line.startswith("|") and not line.startswith(("|--", "| What"))
    ]
    assert len(rows) == len(figures("docs/limits.md"))
    assert len(figures("README.md")) >= 5


def test_every_setting_that_bounds_something_is_among_the_limits() -> None:
    bounds = {name for name in variables() if name.startswith(f"{PREFIX}MAX_")}
    assert bounds <= {figure.source for figure in figures("docs/limits.md")}


def test_the_state_machines_page_is_rendered_from_the_tables() -> None:
    assert STATE_MACHINE.read_text(encoding="utf-8") == render(), "run: .venv/bin/python -m tests.render_docs"


def test_the_configurations_page_is_rendered_from_the_settings() -> None:
    page = render_settings.PAGE.read_text(encoding="utf-8")
    assert page == render_settings.rendered(page), "run: .venv/bin/python -m tests.render_docs"


def test_every_setting_stands_on_the_configurations_page_once() -> None:
    listed = re.findall(
        r"^\| `(CHIMERA_\w+)`", render_settings.PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == sorted(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)


@pytest.mark.parametrize("name", ["README.md", "docs/cli.md"])
def test_the_exit_codes_are_all_there(name: str) -> None:
    listed = re.findall(r"^\| (\d+) \| \S", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(map(int, listed)) == sorted(Exit)


def test_the_key_families_are_those_of_the_store() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z])` ", text, re.MULTILINE)
    assert sorted(listed) == sorted({path[0] for path in (*keys.PLAIN.values(), *keys.OWNED.values())})


def test_the_detectors_figures_are_those_measured_now() -> None:
    measured = measure(load(ROOT / "tests/judging/data/topics.jsonl"))
    assert table(measured) in (ROOT / "docs/judging.md").read_text(encoding="utf-8")
    blind = next(result for result in measured if (result.split, result.topic) == ("blind", "any"))
    # The README's one sentence on it, with its figures.
    sentence = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"precision {blind.precision:.2f} and recall {blind.recall:.3f}" in sentence
