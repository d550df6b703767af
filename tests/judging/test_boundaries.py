"""The boundaries' document: where it comes from, what it may say."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from chimera.errors import ConfigurationError
from chimera.judging import load_boundaries
from chimera.judging.boundaries import block, parse
from chimera.judging.detector import known_topics

ROOT = Path(__file__).parents[2]
SHIPPED = (resources.files("chimera.judging") / "boundaries.yaml").read_text(encoding="utf-8")


def test_the_packaged_boundaries_are_those_of_agents_md() -> None:
    assert block((ROOT / "AGENTS.md").read_text(encoding="utf-8"), "AGENTS.md") == SHIPPED


def test_the_four_topics_ship() -> None:
    assert (
        set(load_boundaries().topics) == set(known_topics()) == {"politics", "health", "financial", "legal"}
    )


def test_a_file_is_read_and_its_topics_are_found(tmp_path: Path) -> None:
    own = SHIPPED.replace("legal]", "legal, gambling]").replace("terms: {}", "terms: {gambling: [casino]}")
    path = tmp_path / "BOUNDS.md"
    path.write_text(f"# Ours\n\n```yaml chimera-boundaries\n{own}```\n", encoding="utf-8")
    detector = load_boundaries(path).detector()
    assert [finding.topic for finding in detector.find("A casino")] == ["gambling"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (", legal]", "]", "legal: missing .* `allow`"),
        ("legal]", "legal, gambling]", "gambling: no lexicon"),
        ("allow: []", "allow: [{topic: legal, reason: we have counsel}]", "keep one"),
        ("version: 1", "version: 2", "version"),
        ("version: 1", "version: 1\nextra: 1", "extra"),
        ("terms: {}", "terms: {gambling: [casino]}", "not in `topics`"),
        ("terms: {}", 'terms: {health: ["vac*n"]}', "terms: .*at one end"),
        ("terms: {}", 'terms: {health: ["--"]}', "terms: .*no word"),
        ("version: 1", "version: [", "no YAML"),
    ],
)
def test_a_wrong_block_is_a_configuration_error(old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        parse(SHIPPED.replace(old, new, 1), "test")


def test_a_topic_is_let_through_only_with_a_reason() -> None:
    text = SHIPPED.replace(", legal]", "]").replace(
        "allow: []", 'allow: [{topic: legal, reason: "counsel reads every result"}]'
    )
    boundaries = parse(text, "test")
    assert boundaries.detector().find("You should sue them for defamation.") == ()
    with pytest.raises(ConfigurationError, match="reason"):
        parse(text.replace("counsel reads every result", "ok"), "test")


@pytest.mark.parametrize("count", [0, 2])
def test_a_document_needs_exactly_one_block(tmp_path: Path, count: int) -> None:
    path = tmp_path / "AGENTS.md"
    path.write_text(f"```yaml chimera-boundaries\n{SHIPPED}```\n" * count, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"{count} blocks"):
        load_boundaries(path)


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="CHIMERA_BOUNDARIES_FILE"):
        load_boundaries(tmp_path / "none.md")
