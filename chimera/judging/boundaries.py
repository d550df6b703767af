"""The mission boundaries: what always waits for a human, read from a document.

The document is Markdown with one fenced block of YAML marked ``chimera-boundaries``, as in
AGENTS.md; the block alone, in a `.yaml` file, is read too. Named by CHIMERA_BOUNDARIES_FILE, else
the copy that ships (`boundaries.yaml` here; a test proves it equal to AGENTS.md's block).
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from chimera.errors import ConfigurationError
from chimera.judging.detector import Detector, known_topics
from chimera.judging.detector.phrase import Phrases

FENCE = re.compile(r"^```yaml chimera-boundaries[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)

TopicName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,38}$")]
Phrase = Annotated[str, Field(min_length=2, max_length=100, pattern=r"\S")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Allowed(_Part):
    """A topic that may pass without a human, and who answers for it."""

    topic: TopicName
    reason: str = Field(min_length=10, description="Why this fleet may decide it alone.")


class Prohibition(_Part):
    """Something that is never done. Stated here; enforced by code, whatever this file says."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    rule: str = Field(min_length=10)


class Boundaries(_Part):
    """What the fleet may and may not do."""

    version: Literal[1]
    topics: tuple[TopicName, ...] = Field(description="Content on these always waits for a human.")
    allow: tuple[Allowed, ...] = Field((), description="Topics that ship with Chimera and are let through.")
    terms: dict[TopicName, tuple[Phrase, ...]] = Field(
        default_factory=dict, description="Phrases that each flag their topic; a new topic needs some."
    )
    never: tuple[Prohibition, ...] = Field(min_length=1)

    @field_validator("terms")
    @classmethod
    def _can_be_found(cls, terms: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for phrases in terms.values():
            Phrases(phrases)
        return terms

    @model_validator(mode="after")
    def _no_topic_is_dropped_silently(self) -> Boundaries:
        allowed = {entry.topic for entry in self.allow}
        if both := sorted(allowed & set(self.topics)):
            raise ValueError(f"{', '.join(both)}: in `topics` and in `allow`; keep one")
        if dropped := sorted(set(known_topics()) - set(self.topics) - allowed):
            raise ValueError(
                f"{', '.join(dropped)}: missing from `topics`; to let it pass without a human, "
                "put it under `allow` with a reason"
            )
        if unknown := sorted(
            set(self.topics) - set(known_topics()) - {t for t, p in self.terms.items() if p}
        ):
            raise ValueError(f"{', '.join(unknown)}: no lexicon ships for it; give phrases under `terms`")
        if stray := sorted(set(self.terms) - set(self.topics)):
            raise ValueError(f"{', '.join(stray)}: has `terms` but is not in `topics`")
        return self

    def detector(self) -> Detector:
        """A detector for these topics."""
        return Detector(self.topics, self.terms)


def load_boundaries(path: Path | None = None) -> Boundaries:
    """Read the boundaries.

    Args:
        path: CHIMERA_BOUNDARIES_FILE; None for the copy that ships.
    Raises:
        ConfigurationError: no such file, no block or several, or a wrong one; says what to do.
    """
    if path is None:
        shipped = resources.files("chimera.judging") / "boundaries.yaml"
        return parse(shipped.read_text(encoding="utf-8"), "the boundaries that ship with Chimera")
    where = f"CHIMERA_BOUNDARIES_FILE ({path})"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"{where} cannot be read ({exc}): create the file, or unset the variable"
        ) from exc
    return parse(text if path.suffix in {".yaml", ".yml"} else block(text, where), where)


def block(markdown: str, where: str) -> str:
    """The YAML within the one fenced block of a document; ConfigurationError unless there is one."""
    blocks = FENCE.findall(markdown)
    if len(blocks) != 1:
        raise ConfigurationError(
            f"{where} holds {len(blocks)} blocks of boundaries, and one is needed: a fence that begins "
            "```yaml chimera-boundaries (see AGENTS.md)"
        )
    return str(blocks[0])


def parse(text: str, where: str) -> Boundaries:
    """Validate a block's YAML; ConfigurationError names every problem."""
    try:
        return Boundaries.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as exc:
        raise ConfigurationError(f"{where}: the block is no YAML: {exc}") from exc
    except ValidationError as exc:
        problems = "\n".join(
            f"  {'.'.join(map(str, error['loc'])) or 'boundaries'}: "
            f"{str(error['msg']).removeprefix('Value error, ')}"
            for error in exc.errors()
        )
        raise ConfigurationError(f"{where}: correct the block (see AGENTS.md):\n{problems}") from exc
