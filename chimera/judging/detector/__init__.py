"""The sensitive-topic detector: which of politics, health, financial and legal a text is about.

Lexical, explainable, linear in the text, English only. `docs/judging.md` publishes how well it
does on a labelled set; ``python -m chimera.judging.detector FILE`` computes those figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chimera.judging.detector.phrase import folded, words
from chimera.judging.detector.topic import Evidence, Finding, Lexicon, known_topics, lexicon

__all__ = ["Detector", "Evidence", "Finding", "known_topics", "prose"]


class Detector:
    """Looks for some topics.

    Args:
        topics: names, each with a lexicon that ships, or with phrases of its own in `terms`.
        terms: further strong phrases for a topic (see `phrase` for their form).
    """

    def __init__(self, topics: Iterable[str], terms: Mapping[str, Sequence[str]] | None = None) -> None:
        self.topics = tuple(topics)
        extra = terms or {}
        self._lexicons = [lexicon(topic) for topic in self.topics if topic in known_topics()]
        self._lexicons += [
            Lexicon(topic, list(extra[topic]), [], [], []) for topic in self.topics if extra.get(topic)
        ]
        if missing := set(self.topics) - {one.topic for one in self._lexicons}:
            raise ValueError(f"no lexicon and no terms for {', '.join(sorted(missing))}")

    def find(self, text: str) -> tuple[Finding, ...]:
        """The topics of a text, each with its evidence; empty when there is none."""
        source = folded(text)
        cut = words(source)
        if not cut:
            return ()
        best: dict[str, Finding] = {}
        for one in self._lexicons:
            finding = one.find(cut, source)
            if finding and (one.topic not in best or finding.score > best[one.topic].score):
                best[one.topic] = finding
        return tuple(best[topic] for topic in self.topics if topic in best)


class _Pairs(list[tuple[Any, Any]]):
    """The members of a JSON object, each as often as it stands there."""


def prose(value: Any) -> str:
    """A JSON value as text to look through: strings and keys, one line for each leaf.

    A string that holds JSON is read as that JSON: neither escapes nor a key that comes twice hide anything.
    """
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        try:
            value = json.loads(value, object_pairs_hook=_Pairs, strict=False)
        except ValueError:
            return str(value)
    if isinstance(value, Mapping):
        value = _Pairs(value.items())
    if isinstance(value, _Pairs):
        return "\n".join(f"{str(key).replace('_', ' ')}: {prose(inner)}" for key, inner in value)
    if isinstance(value, list | tuple):
        return "\n".join(prose(inner) for inner in value)
    return "" if value is None or isinstance(value, bool) else str(value)
