"""The event model is published: its schema, and a table of every kind that says what is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from chimera.core.event import KINDS, VERSION, Event, expand, schema_text
from chimera.store.scripts import source
from tests.core.ledgers import Book

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| `([a-z]+\.[a-z_]+)` \| (.*?) \| (.*?) \| (.*) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, list[str], str]]:
    """Kind → what it means, the scripts that write it, its details, as docs/recorder.md has them."""
    text = (DOCS / "recorder.md").read_text(encoding="utf-8")
    return {
        kind: (means, re.findall(r"`(\w+)`", by), details) for kind, means, by, details in ROW.findall(text)
    }


def test_the_schema_in_the_docs_is_that_of_the_model_and_events_fit_it() -> None:
    published = (DOCS / "event.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "write chimera.core.event.schema_text() to it"
    jsonschema.validate(
        json.loads(Book().note("task.claimed", "m1.0").model_dump_json()), json.loads(published)
    )


def test_the_table_has_every_kind_as_the_code_means_it() -> None:
    assert {kind: means for kind, (means, _, _) in rows().items()} == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_scripts_that_the_table_names_write_the_kind(kind: str) -> None:
    _, scripts, _ = rows()[kind]
    noted = {"tenant.added", "tenant.purged", "key.created", "key.rotated", "key.revoked"}
    assert scripts
    for script in scripts:
        code = source(script)
        settled = 'note("mission." .. string.lower(to)' in code and kind.startswith("mission.")
        assert f'"{kind}"' in code or settled or (kind in noted and script == "note_act"), script


def test_an_event_has_a_version_and_an_id_that_names_it() -> None:
    fields = {"seq": "42", "at": "1", "by": "w", "events": '[["task.claimed","m1","m1.0",[]]]'}
    (event,) = expand(fields, 3, "acme")
    assert (event.v, event.id) == (VERSION, "acme/3/42")
    # Whoever is older reads what it knows.
    assert Event.model_validate({**event.model_dump(), "colour": "red"}) == event
