"""A tenant's secrets, as its agents see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Secrets(Mapping[str, str]):
    """Values by name, read only. What is printed or logged of it are the names."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        try:
            return self._values[name]
        except KeyError:
            there = ", ".join(sorted(self._values)) or "none"
            raise KeyError(f"this tenant has no secret {name!r}; it has {there}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<secrets {', '.join(sorted(self._values))}>" if self._values else "<no secrets>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("secrets are not pickled: hand on the one value that is needed")
