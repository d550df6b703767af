"""The `human` policy: a person decides.

Confidence: always 0.80. Under the default thresholds (0.70 to 0.90 waits) that is an escalation;
`evaluate` escalates such a mission under any other thresholds too, so that settings cannot turn
"ask a human" into an acceptance.
"""

from __future__ import annotations

from chimera.core.judge import HumanPolicy
from chimera.core.verdict import Opinion
from chimera.judging.policy import Submission

CONFIDENCE = 0.80


class HumanJudge:
    """Has no view of its own."""

    def __init__(self, spec: HumanPolicy) -> None:
        self.spec = spec

    def judge(self, submission: Submission) -> Opinion:
        return Opinion(
            policy="human",
            confidence=CONFIDENCE,
            feedback="",
            details={"note": self.spec.note} if self.spec.note else {},
        )
