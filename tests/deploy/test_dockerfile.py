"""What the image is made of, as its files say; no engine is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
FINAL = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def pins(path: str) -> dict[str, set[str]]:
    """Each `name==version` of a lock, with its hashes."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / path).read_text(encoding="utf-8")):
        name = entry.partition("\n")[0].rstrip("\\ ").partition(" ;")[0]
        found[name] = set(re.findall(r"--hash=(\S+)", entry))
    return found


def test_the_images_lock_has_nothing_that_the_whole_lock_has_not() -> None:
    whole, image = pins("requirements.lock"), pins("docker/requirements.lock")
    assert {name: hashes for name, hashes in image.items() if not hashes} == {}
    assert {name for name, hashes in image.items() if not hashes <= whole.get(name, set())} == set()
    assert any(name.startswith("ray==") for name in image)
    assert not any(name.startswith(("pytest==", "mypy==", "playwright==")) for name in image)
    assert "://" not in (ROOT / "docker/requirements.lock").read_text(encoding="utf-8")


def test_every_package_is_checked_against_its_hash() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if re.search("uv pip (install|sync)", line)]
    assert len(installs) == 2
    assert all("--require-hashes" in line or "--offline --no-index" in line for line in installs)


def test_the_process_is_a_numbered_user_behind_an_init() -> None:
    assert re.findall(r"^USER (.*)$", FINAL, re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["tini", "--", "chimera"]' in FINAL
    assert "HEALTHCHECK" in FINAL
    assert re.findall(r"^EXPOSE (.*)$", FINAL, re.MULTILINE) == ["8000 6379"]


def test_the_final_stage_installs_an_init_and_no_compiler() -> None:
    (installed,) = re.findall(r"apt-get install --yes --no-install-recommends (.*?) \\", FINAL)
    assert set(installed.split()) == {"ca-certificates", "libgomp1", "tini"}


def test_packages_are_compiled_where_they_are_installed() -> None:
    """On a read-only file system each process would compile them anew."""
    build = DOCKERFILE[: DOCKERFILE.rindex("\nFROM ")]
    assert build.index("UV_COMPILE_BYTECODE=1") < build.index("uv pip sync")


def test_docker_asks_a_file_that_there_is() -> None:
    (asked,) = re.findall(r"^ +CMD (\[.*\])$", FINAL, re.MULTILINE)
    _, path = json.loads(asked)[-1].split("/site-packages/")
    assert (ROOT / path).is_file()


def test_whatever_is_not_named_stays_out_of_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert copied == {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
