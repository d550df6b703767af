"""Mistakes in what a client sent: told one by one as long as they are few.

A list of a million wrong items is two bytes for each of them, and a mistake of a thousand in memory: to find
and tell all of them would hold up whoever reads the request, and everybody with it.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, BeforeValidator, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

MOST = 1_000
"""So many mistakes in one document are told one by one; of more only that there are more."""


def at_most(count: int) -> BeforeValidator:
    """Refuses a list with more items before any of them is looked at: pydantic looks at all of them first."""

    def check(value: Any) -> Any:
        if isinstance(value, list | tuple) and len(value) > count:
            known = {"field_type": "Tuple", "max_length": count, "actual_length": len(value)}
            raise PydanticKnownError("too_long", known)
        return value

    return BeforeValidator(check)


class Counted(BaseModel):
    """What a client sends: more than `MOST` mistakes in it are one."""

    @model_validator(mode="wrap")
    @classmethod
    def _told(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as exc:
            if exc.error_count() <= MOST:
                raise
            raise PydanticCustomError(
                "many_mistakes", "more than {most} things are wrong with it", {"most": f"{MOST:,}"}
            ) from None
