"""A change of limits of money: which of them it raises. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def raised(before: Mapping[str, int], changes: Mapping[str, int | None]) -> tuple[str, ...]:
    """The limits that a change raises or removes, by name; money may then be spent that could not be before.

    A limit where none stood, one that stays as it was, and the removal of one that is not there are no raise.

    Args:
        before: the limits that stand (µ$).
        changes: what they become; None removes one.
    """
    return tuple(
        sorted(
            name
            for name, amount in changes.items()
            if name in before and (amount is None or amount > before[name])
        )
    )
