"""One sensitive topic: its lexicon, and how a text is scored against it.

Weights: a strong phrase 1.0, a medium one 0.6, a weak one 0.4, advice beside a medium one 0.4; weak
phrases alone are nothing.
The score of a text is the greatest sum of distinct phrases over two neighbouring sentences, so a
long document is not flagged for words pages apart. Word sense is read from the company a word
keeps: what a `never` phrase covers counts nothing; where the two sentences hold two words of
software, medium phrases count half and weak ones and advice nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import yaml

from chimera.judging.detector.phrase import Match, Phrases, Word

THRESHOLD = 1.0
STRONG, MEDIUM, WEAK, ADVICE = 1.0, 0.6, 0.4, 0.4
SOFTWARE_WORDS = 2

_ADVICE_WORDS = "should must recommend advise advised avoid consult ought need never always"
_SOFTWARE_WORDS = """
actor agent api async backend batch bug build cache class cli client cluster code command commit
compile config constructor container cpu database dashboard debug deploy deployment docker endpoint
exception file function gateway git governor http import index instance interface json kubernetes
latency lease library log loop lua memory method metric mission module namespace node object
orchestrator package parser pod process prompt python queue ray redis replica repository request
retry runtime schema script server service setting software stack stream swarm tenant test thread
timeout token type upload variable version worker yaml
"""
_ADVICE = frozenset(_ADVICE_WORDS.split())
_SOFTWARE = frozenset(_SOFTWARE_WORDS.split())


class Evidence(NamedTuple):
    """A phrase that was found: the words as written (folded), and their place in the folded text."""

    text: str
    start: int
    end: int
    weight: float


class Finding(NamedTuple):
    """A topic that a text is about, and why."""

    topic: str
    score: float
    evidence: tuple[Evidence, ...]


class Lexicon:
    """The phrases of one topic."""

    def __init__(self, topic: str, strong: list[str], medium: list[str], weak: list[str], never: list[str]):
        self.topic = topic
        self.weights = {
            **dict.fromkeys(weak, WEAK),
            **dict.fromkeys(medium, MEDIUM),
            **dict.fromkeys(strong, STRONG),
        }
        self.phrases, self.never = Phrases(self.weights), Phrases(never)

    def find(self, text: Sequence[Word], source: str) -> Finding | None:
        """The finding for words cut from the folded `source`, or None below `THRESHOLD`."""
        covered = {at for match in self.never.matches(text) for at in range(match.first, match.last + 1)}
        by_sentence: dict[int, list[Match]] = defaultdict(list)
        for match in self.phrases.matches(text):
            if covered.isdisjoint(range(match.first, match.last + 1)):
                by_sentence[text[match.first].sentence].append(match)
        if not by_sentence:
            return None
        software, advice = _company(text)
        best, window = max((self._score(at, by_sentence, software, advice), at) for at in by_sentence)
        if best < THRESHOLD:
            return None
        matches = [*by_sentence[window], *by_sentence.get(window + 1, ())]
        return Finding(
            self.topic, round(best, 2), tuple(self._evidence(match, text, source) for match in matches)
        )

    def _score(
        self,
        at: int,
        by_sentence: dict[int, list[Match]],
        software: dict[int, set[str]],
        advice: set[int],
    ) -> float:
        technical = len(software.get(at, set()) | software.get(at + 1, set())) >= SOFTWARE_WORDS
        places: dict[int, float] = {}
        seen: dict[str, float] = {}
        found = (*by_sentence[at], *by_sentence.get(at + 1, ()))
        if all(self.weights[match.phrase] < MEDIUM for match in found):
            return 0.0
        for match in found:
            weight = self.weights[match.phrase]
            if technical and weight < STRONG:
                weight = weight / 2 if weight == MEDIUM else 0.0
            # Phrases that begin at one word speak of one thing: it counts once, at its heaviest.
            places[match.first] = max(places.get(match.first, 0.0), weight)
            seen[match.phrase] = weight
        total = min(sum(places.values()), sum(seen.values()))
        if total and not technical and not advice.isdisjoint({at, at + 1}):
            total += ADVICE if total >= MEDIUM else 0.0
        return round(total, 2)

    def _evidence(self, match: Match, text: Sequence[Word], source: str) -> Evidence:
        start, end = text[match.first].start, text[match.last].end
        return Evidence(source[start:end], start, end, self.weights[match.phrase])


def _company(text: Sequence[Word]) -> tuple[dict[int, set[str]], set[int]]:
    software: dict[int, set[str]] = defaultdict(set)
    advice: set[int] = set()
    for word in text:
        if word.text in _SOFTWARE:
            software[word.sentence].add(word.text)
        if word.text in _ADVICE:
            advice.add(word.sentence)
    return software, advice


def known_topics() -> tuple[str, ...]:
    """The topics that have a lexicon, in alphabetical order."""
    folder = resources.files("chimera.judging.detector") / "lexicon"
    return tuple(
        sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    )


@lru_cache
def lexicon(topic: str) -> Lexicon:
    """The lexicon that ships for a topic; KeyError for one that has none."""
    if topic not in known_topics():
        raise KeyError(topic)
    source = resources.files("chimera.judging.detector") / "lexicon" / f"{topic}.yaml"
    kinds = yaml.safe_load(source.read_text(encoding="utf-8"))
    return Lexicon(topic, **{kind: _split(lines) for kind, lines in kinds.items()})


def _split(lines: list[str]) -> list[str]:
    return [phrase.strip() for line in lines for phrase in line.split(";") if phrase.strip()]
