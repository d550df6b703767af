"""Every command of the documents is run by a test, or stands in one table as not run, with the reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from chimera.settings import PREFIX, load
from tests.documented import (
    NOT_RUN,
    PROVED,
    ROOT,
    TO_THE_LETTER,
    Documented,
    commands,
    documents,
    named,
    scripts,
    split,
    unsaid,
)

DOCUMENTS = documents()
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def others(path: Path) -> list[Documented]:
    """The commands of a document that no test runs to the letter."""
    return [] if str(path.relative_to(ROOT)) in TO_THE_LETTER else list(commands(path))


@each_document
def test_every_command_has_a_test_or_a_reason(path: Path) -> None:
    unknown = {one.name for one in others(path)} - PROVED.keys() - NOT_RUN.keys()
    assert unknown == set(), "add them to PROVED or NOT_RUN in tests/documented.py"


def test_no_row_is_of_a_command_that_no_document_has() -> None:
    named_somewhere = {one.name for path in DOCUMENTS for one in others(path)}
    assert PROVED.keys() - named_somewhere == set()
    assert NOT_RUN.keys() - named_somewhere == set()
    assert PROVED.keys() & NOT_RUN.keys() == set()
    assert all(len(reason) > 20 for reason in NOT_RUN.values())


@pytest.mark.parametrize("proof", sorted({*PROVED.values(), *TO_THE_LETTER.values()}))
def test_every_proof_exists(proof: str) -> None:
    if target := re.fullmatch(r"make ([a-z-]+)", proof):
        run = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
        assert f"make {target[1]}" in run
        return
    file, _, name = proof.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in tree.body if isinstance(node, functions)}


@pytest.mark.parametrize("name", PROVED)
def test_a_proof_says_the_command(name: str) -> None:
    assert unsaid(name, PROVED[name]) == [], PROVED[name]


@pytest.mark.parametrize(
    ("name", "proof", "words"),
    [
        # Its rule runs tests, and its comment says a lot.
        ("docker build", "make test-deploy", ["docker", "build"]),
        # The file says it, and this test of it does not.
        (
            "docker compose down",
            "tests/deploy/test_stack.py::test_redis_knows_nobody_without_a_login",
            ["docker", "compose", "down"],
        ),
        ("chimera spoke", "tests/cli/test_spend.py::test_spend_writes_json_and_csv", ["spoke"]),
    ],
)
def test_what_does_not_say_a_command_is_no_proof_of_it(name: str, proof: str, words: list[str]) -> None:
    assert unsaid(name, proof) == words


@each_document
def test_what_a_document_exports_is_taken_by_the_settings(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"Authorization": "Bearer of-whoever-reads-this"}', encoding="utf-8")
    for script in scripts(path):
        exported = [word for words in split(script) if words[0] == "export" for word in words[1:]]
        with monkeypatch.context() as patch:
            for name, _, value in (word.partition("=") for word in exported):
                assert name.startswith(PREFIX), name
                # The files are the reader's own.
                patch.setenv(name, str(secret) if name.endswith("_FILE") else value)
            load()


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("make test # all | of it\n", ["make test"]),
        (".venv/bin/chimera spend audit --tenant acme -o json\n", ["chimera spend audit"]),
        ("chimera spend --by day | head -3\n", ["chimera spend", "head"]),
        ("A=1 chimera \\\n  up && cd /tmp; exec ray start --head &\n", ["chimera up", "ray start"]),
        ("ray job submit -- python -m chimera.mission x.yaml\n", ["ray job submit"]),
        ("(echo 'a; b'; cat x) |\n  curl -T - -H \"a: $(cat k)\" http://h/v1\n", ["curl"]),
        ("export A='{\n \"a\": 1}'\nchimera up\n", ["chimera up"]),
        ("docker run --name chimera chimera:dev\ndocker stop chimera\n", ["docker run", "docker stop"]),
        ("docker compose up --detach\nkubectl apply -k kuberay\n", ["docker compose up", "kubectl apply"]),
        ("kubectl -n chimera-system get rayservice chimera\n", ["kubectl get"]),
        ("kubectl create -f - <<END\nchimera: fly\nEND\nchimera down\n", ["kubectl create", "chimera down"]),
        ('key=$(openssl rand -hex 32)\ndigest() { printf %s "$1"; }\nchimera up\n', ["chimera up"]),
    ],
)
def test_a_script_is_read_as_a_shell_would(script: str, names: list[str]) -> None:
    assert [name for words in split(script) if (name := named(words))] == names


def test_a_command_that_nobody_proved_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh\nchimera mission list\nchimera mission fly\nrm -rf /\n```\n")
    assert {one.name for one in commands(page)} - PROVED.keys() == {"chimera mission", "rm"}
