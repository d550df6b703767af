"""A namespace's ResourceQuota, as admission of Kubernetes keeps it for pods: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

UNITS = {
    "m": Decimal("0.001"),
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
}
SHORT = {"cpu": "requests.cpu", "memory": "requests.memory"}
"""What a quota may call its requests."""


def quantity(written: str | float) -> Decimal:
    """A quantity of Kubernetes, such as `500m`, `2` or `1Gi`, as a number."""
    text = str(written)
    unit = next((unit for unit in sorted(UNITS, key=len, reverse=True) if text.endswith(unit)), "")
    return Decimal(text.removesuffix(unit)) * UNITS.get(unit, Decimal(1))


def takes(pod: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a pod counts for; a request that is not given is its limit."""
    total = {"pods": Decimal(1)}
    for container in pod["spec"]["containers"]:
        resources = container.get("resources", {})
        limits = resources.get("limits", {})
        for kind, given in (("limits", limits), ("requests", {**limits, **resources.get("requests", {})})):
            for name, value in given.items():
                subject = f"{kind}.{name}"
                total[subject] = total.get(subject, Decimal(0)) + quantity(value)
    return total


def refusal(
    quota: Mapping[str, Any], pod: Mapping[str, Any], others: Iterable[Mapping[str, Any]]
) -> str | None:
    """Why the quota does not let the pod in beside the others, in Kubernetes' words; None when it does.

    Args:
        quota: the ResourceQuota object.
    """
    name, begins = quota["metadata"]["name"], f'pods "{pod["metadata"]["name"]}" is forbidden: '
    asked = takes(pod)
    hard = {SHORT.get(subject, subject): quantity(value) for subject, value in quota["spec"]["hard"].items()}
    hard = {
        subject: limit
        for subject, limit in hard.items()
        if subject == "pods" or subject.startswith(("requests.", "limits."))
    }
    if missing := sorted(hard.keys() - asked.keys()):
        return f"{begins}failed quota: {name}: must specify {','.join(missing)}"
    there = [takes(other) for other in others]
    used = {subject: sum((one.get(subject, Decimal(0)) for one in there), Decimal(0)) for subject in hard}
    over = sorted(subject for subject, limit in hard.items() if used[subject] + asked[subject] > limit)
    if not over:
        return None

    def said(values: Mapping[str, Decimal]) -> str:
        return ",".join(f"{subject}={values[subject].normalize():f}" for subject in over)

    return (
        f"{begins}exceeded quota: {name}, requested: {said(asked)}, used: {said(used)}, limited: {said(hard)}"
    )
