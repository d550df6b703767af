"""An answer that was paid for and cannot be used."""

from __future__ import annotations

from chimera.errors import BackendError


class AnswerUnusable(BackendError):
    """The model answered, and was paid, but not with what was asked for.

    Args:
        model: the model's name.
        problem: what is wrong with the answer.
        text: the answer as it came.
    """

    def __init__(self, model: str, problem: str, text: str = "") -> None:
        super().__init__(model, problem, text)
        self.model, self.problem, self.text = model, problem, text

    def __str__(self) -> str:
        return f"model {self.model!r} gave no usable answer: {self.problem}"
