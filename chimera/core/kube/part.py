"""What every part of a Kubernetes object has in common: frozen, strict, written as the API spells it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Part(BaseModel):
    """A part of an object. Fields are given in snake_case and written in camelCase; None is left out."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    def manifest(self) -> dict[str, Any]:
        """As the API server takes it: plain JSON types, fields in the order they are declared."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Metadata(Part):
    """An object's, or a pod template's."""

    name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
