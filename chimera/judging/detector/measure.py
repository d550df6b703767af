"""How well the detector does on a labelled set."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from chimera.judging.detector import Detector, known_topics


class Labelled(BaseModel):
    """One text of the set, with the topics a person gave it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    labels: tuple[str, ...]
    split: str
    note: str = ""


class Result(NamedTuple):
    """Counts for one topic on one split; `errors` names each text that went wrong."""

    split: str
    topic: str
    hits: int
    false_alarms: int
    misses: int
    errors: tuple[str, ...]

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.false_alarms) if self.hits + self.false_alarms else 1.0

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 1.0


def load(path: Path) -> list[Labelled]:
    """Read a set: one JSON object a line."""
    return [Labelled.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measure(texts: list[Labelled]) -> list[Result]:
    """One result for each split and topic, and one named `any`: flagged at all, or not."""
    detector = Detector(known_topics())
    found = [(text, {finding.topic for finding in detector.find(text.text)}) for text in texts]
    results = []
    for split in sorted({text.split for text in texts}):
        for topic in (*known_topics(), "any"):
            hits, alarms, misses = [], [], []
            for text, topics in (pair for pair in found if pair[0].split == split):
                said = bool(topics) if topic == "any" else topic in topics
                meant = bool(text.labels) if topic == "any" else topic in text.labels
                if said and meant:
                    hits.append(text.text)
                elif said:
                    alarms.append(f"false alarm: {text.text}")
                elif meant:
                    misses.append(f"miss: {text.text}")
            results.append(Result(split, topic, len(hits), len(alarms), len(misses), (*alarms, *misses)))
    return results


def table(results: list[Result]) -> str:
    """The results as a Markdown table."""
    rows = [
        f"| {r.split} | {r.topic} | {r.hits + r.misses} | {r.precision:.3f} | {r.recall:.3f} |\n"
        for r in results
    ]
    return "| split | topic | positives | precision | recall |\n|---|---|---:|---:|---:|\n" + "".join(rows)
