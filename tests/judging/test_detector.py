"""The topic detector: its bars on the labelled set, its word sense, its bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera.judging.detector import Detector, known_topics, prose
from chimera.judging.detector.measure import Result, load, measure
from chimera.judging.detector.phrase import Phrases, folded, words
from chimera.judging.detector.topic import lexicon

LABELLED = Path(__file__).parent / "data" / "topics.jsonl"
ROOT = Path(__file__).parents[2]

# Precision and recall that must hold, by split. `blind` was written after the lexicons and never tuned on.
BARS = {"dev": (0.95, 0.95), "held_out": (0.85, 0.85)}


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(known_topics())


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return measure(load(LABELLED))


@pytest.mark.parametrize("split", BARS)
def test_each_topic_meets_the_bars(results: list[Result], split: str) -> None:
    precision, recall = BARS[split]
    for result in (result for result in results if result.split == split):
        assert result.precision >= precision, result
        assert result.recall >= recall, result


def test_texts_never_tuned_on_meet_a_lower_bar(results: list[Result]) -> None:
    overall = next(r for r in results if (r.split, r.topic) == ("blind", "any"))
    assert overall.precision >= 0.85, overall
    assert overall.recall >= 0.50, overall


def test_the_set_is_large_and_balanced() -> None:
    texts = load(LABELLED)
    assert len(texts) >= 240
    assert sum(not text.labels for text in texts) >= 100
    for topic in known_topics():
        assert sum(topic in text.labels for text in texts) >= 40
    assert len({text.text for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "text",
    [
        "The budget limit stops the mission",
        "A health check failed",
        "Read the licence file",
        "The token expired",
        "A covalent bond",
        "An executive summary",
        "A third-party library",
        "The judge policy asks for a schema",
        "A stock photo",
        "Apache License 2.0",
        "The spend limit is $5",
        "The governor refuses the call",
        "Treatment of errors",
        "A state machine",
        "Leader election",
        "A quorum must vote",
        "The trial period ends",
        "A virus scanner",
        "Viral event",
        "Inject a dependency",
        "Be patient, wait",
        "A symptom of a bug",
    ],
)
def test_technical_uses_are_not_flagged(detector: Detector, text: str) -> None:
    assert detector.find(text) == ()


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("V\u00adote for Smith in the gene\u200bral election", "politics"),
        ("ＴＡＫＥ ＩＢＵＰＲＯＦＥＮ", "health"),
        *(
            (f"Take ibu{chr(code)}profen", "health")
            for code in (0, 8, 0x7F, 0x301, 0x34F, 0x61C, 0x115F, 0x180E)
        ),
        *(
            (f"Take ibu{chr(code)}profen", "health")
            for code in (0x200E, 0x202E, 0x2066, 0x3164, 0xFE0F, 0xE0041)
        ),
    ],
)
def test_invisible_and_wide_characters_hide_nothing(detector: Detector, text: str, topic: str) -> None:
    assert topic in {finding.topic for finding in detector.find(text)}


def test_a_finding_shows_its_evidence(detector: Detector) -> None:
    text = "Rest, and take ibuprofen for the migraine."
    (finding,) = detector.find(text)
    assert finding.topic == "health"
    assert finding.score >= 1
    assert {"ibuprofen", "migraine"} <= {evidence.text for evidence in finding.evidence}
    assert all(folded(text)[e.start : e.end] == e.text for e in finding.evidence)


def test_a_topic_of_ones_own_is_found_by_its_terms() -> None:
    detector = Detector(["gambling"], {"gambling": ["place a bet", "casino*"]})
    assert [finding.topic for finding in detector.find("Two casinos opened")] == ["gambling"]


@pytest.mark.parametrize("term", ["Place a Bet", "e-Cigarettes", "Würfel", "blood_pressure", "S&P 500"])
def test_a_term_is_found_however_it_is_written(term: str) -> None:
    detector = Detector(["own"], {"own": [term]})
    for text in (term, term.upper(), f"All of {term.lower()}, and more."):
        assert [finding.topic for finding in detector.find(text)] == ["own"]


def test_a_topic_without_lexicon_or_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="gambling"):
        Detector(["gambling"])


def test_keys_and_nested_values_are_read() -> None:
    assert prose({"blood_pressure": [{"unit": "mm"}]}) == "blood pressure: unit: mm"


def test_json_in_a_string_is_read_as_json() -> None:
    assert prose('{"advice": "buy\\u0020bitcoin"}') == "advice: buy bitcoin"
    assert prose("{not json") == "{not json"
    assert prose('{"a": "buy bitcoin", "a": "x"}') == "a: buy bitcoin\na: x"


def own_documents() -> list[Path]:
    found = [ROOT / name for name in ("README.md", "AGENTS.md", "CHANGELOG.md")]
    found += sorted((ROOT / "docs").rglob("*.md"))
    return [path for path in found if path.exists()]


@pytest.mark.parametrize("path", own_documents(), ids=lambda path: path.name)
def test_the_projects_own_documents_pass(detector: Detector, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    parts = [*text.split("\n\n"), text[:900]]
    flagged = {part[:80]: detector.find(part) for part in parts if detector.find(part)}
    assert flagged == {}


@settings(max_examples=25)
@given(st.integers(1, 12), st.sampled_from([text.text for text in load(LABELLED)]))
def test_work_grows_in_step_with_the_text(times: int, text: str) -> None:
    for topic in known_topics():
        phrases: Phrases = lexicon(topic).phrases
        once, many = words(folded(text + "\n")), words(folded((text + "\n") * times))
        tried = sum(1 for word in many for _ in phrases.candidates(word.text))
        assert tried == times * sum(1 for word in once for _ in phrases.candidates(word.text))
        assert tried <= phrases.widest * len(many)
        assert len(list(phrases.matches(many))) == times * len(list(phrases.matches(once)))


@given(st.text(max_size=300))
def test_any_text_is_taken(text: str) -> None:
    source = folded(text)
    for finding in Detector(known_topics()).find(text):
        assert finding.score >= 1
        assert all(source[e.start : e.end] == e.text for e in finding.evidence)
