"""Judging: policies, how they compose, and the boundaries that no score overrules."""

from chimera.judging.boundaries import Boundaries, load_boundaries
from chimera.judging.detector import Detector, Finding
from chimera.judging.evaluate import Asker, Askers, MoreTopics, evaluate, find_topics, validate_policies
from chimera.judging.llm import Ask
from chimera.judging.policy import JudgeFailed, Submission, combine

__all__ = [
    "Ask",
    "Asker",
    "Askers",
    "Boundaries",
    "Detector",
    "Finding",
    "JudgeFailed",
    "MoreTopics",
    "Submission",
    "combine",
    "evaluate",
    "find_topics",
    "load_boundaries",
    "validate_policies",
]
