"""The `rules` policy: length, required and forbidden patterns, grounding.

Confidence: 1.0 when every rule holds. Otherwise ``0.60 * kept / all``, each rule giving 1 when it
holds and a part when it nearly does: a length gives the ratio of actual to allowed, grounding gives
``share / min_share``, a pattern gives nothing. So a failing rule is at most 0.60, below the
rejection threshold of 0.70, and a nearer miss scores higher than a wide one.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

from chimera.core.judge import Grounding, RulesPolicy
from chimera.core.verdict import Opinion
from chimera.judging.patterns import compiled, found
from chimera.judging.policy import TIME_LIMIT_S, JudgeFailed, Submission, pick, text_of

FAILING = 0.60
MAX_NAMED = 8

_STOP_WORDS = """
a about above after again all also am an and any are as at be because been before being below
between both but by can could did do does doing down during each few for from further had has have
having he her here hers him his how i if in into is it its itself just me more most my no nor not
now of off on once only or other our out over own same she should so some such than that the their
them then there these they this those through to too under until up us very was we were what when
where which while who whom why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


class Mark(NamedTuple):
    """What one rule makes of the text: 0..1, and what to change when below 1."""

    share: float
    feedback: str = ""


class RulesJudge:
    """Applies one `rules` spec."""

    def __init__(self, spec: RulesPolicy) -> None:
        """Raises ValueError when a pattern is not RE2."""
        self.spec = spec
        for pattern in (*spec.required, *spec.forbidden):
            compiled(pattern)

    def judge(self, submission: Submission) -> Opinion:
        """Raises `JudgeFailed`: its time is over."""
        until = time.monotonic() + TIME_LIMIT_S
        details: dict[str, Any] = {}
        marks: list[Mark] = []
        for mark in self._marks(submission, details):
            marks.append(mark)
            if time.monotonic() > until:
                raise JudgeFailed("rules", f"its patterns take over {TIME_LIMIT_S:g} s on it")
        held = all(mark.share >= 1 for mark in marks)
        confidence = 1.0 if held else FAILING * sum(mark.share for mark in marks) / len(marks)
        feedback = "; ".join(mark.feedback for mark in marks if mark.feedback)
        return Opinion(policy="rules", confidence=confidence, feedback=feedback, details=details)

    def _marks(self, submission: Submission, details: dict[str, Any]) -> Iterator[Mark]:
        spec = self.spec
        name = f"field {spec.field!r}" if spec.field else "the result"
        there, value = pick(submission.result, spec.field)
        text = text_of(value).strip()
        if not there:
            yield Mark(0.0, f"{name} is missing")
        if spec.min_chars is not None or spec.max_chars is not None:
            details["chars"] = len(text)
            yield length_mark(name, len(text), spec.min_chars or 0, spec.max_chars)
        for pattern in spec.required:
            yield Mark(1.0) if found(pattern, text) else Mark(0.0, f"{name} must match {pattern}")
        for pattern in spec.forbidden:
            yield Mark(0.0, f"{name} must not match {pattern}") if found(pattern, text) else Mark(1.0)
        if spec.grounded is not None:
            yield self._grounded(spec.grounded, submission, details)

    def _grounded(self, rule: Grounding, submission: Submission, details: dict[str, Any]) -> Mark:
        path = rule.field or self.spec.field
        name = f"field {path!r}" if path else "the result"
        there, value = pick(submission.result, path)
        said = sorted(set(content_words(_prose(value))))
        if not there or not said:
            return Mark(0.0, f"{name} has no words that could be found in the input")
        source = set(content_words(_prose([submission.input, submission.inputs])))
        foreign = [word for word in said if word not in source]
        share = 1 - len(foreign) / len(said)
        details["grounded_share"] = round(share, 4)
        if share >= rule.min_share:
            return Mark(1.0)
        return Mark(
            share / rule.min_share,
            f"{name} must come from the input: {share:.0%} of its words do, {rule.min_share:.0%} must; "
            f"not in the input: {', '.join(foreign[:MAX_NAMED])}",
        )


def length_mark(name: str, chars: int, least: int, most: int | None) -> Mark:
    """1 within the bounds, else the ratio of the nearer bound and the length."""
    if chars < least:
        return Mark(chars / least, f"{name} has {chars} characters, at least {least} are needed")
    if most is not None and chars > most:
        return Mark(most / chars, f"{name} has {chars} characters, at most {most} are allowed")
    return Mark(1.0)


def content_words(text: str) -> Iterator[str]:
    """Words that carry meaning, normalised: case, compatibility forms, plural and verb endings."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(c if c.isalnum() else " " for c in folded.replace("'", "").replace("’", ""))
    for word in letters.split():
        if word not in STOP_WORDS and (len(word) > 1 or word.isdigit()):
            yield normalised(word)


def normalised(word: str) -> str:
    """A crude stem: enough to see `lists`, `listed` and `listing` as one word."""
    for ending, least in (("ies", 5), ("ing", 6), ("ed", 5), ("es", 5), ("s", 4), ("e", 5), ("y", 5)):
        if len(word) >= least and word.endswith(ending) and not word.endswith("ss"):
            stem = word[: -len(ending)]
            if len(stem) > 3 and stem[-1] == stem[-2] and ending in {"ing", "ed"}:
                stem = stem[:-1]
            return stem[:-1] if stem.endswith(("e", "y", "i")) and len(stem) > 3 else stem
    return word


def _prose(value: Any) -> str:
    """Every string and number within a value; keys are form, not content."""
    if isinstance(value, dict):
        return " ".join(_prose(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return " ".join(_prose(inner) for inner in value)
    return text_of(value)
