"""The embedded model where something is amiss; what it answers is tested in `test_llm`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chimera.agents.models import embedded
from chimera.errors import ConfigurationError


def installed(text: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name whose import does this."""
    (directory / "xllamacpp.py").write_text(text, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    monkeypatch.syspath_prepend(directory)


def test_a_library_of_the_system_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "libgomp.so.1: cannot open shared object file"
    installed(f"raise ImportError({missing!r})", tmp_path, monkeypatch)
    with pytest.raises(ConfigurationError, match=missing) as caught:
        embedded.inference()
    assert "not installed" not in str(caught.value)


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("import nothing_of_that_name", tmp_path, monkeypatch)
    with pytest.raises(ConfigurationError, match=r"^nothing_of_that_name is not installed"):
        embedded.inference()


def test_beyond_loopback_it_answers_nobody_without_a_key() -> None:
    with pytest.raises(ConfigurationError, match="CHIMERA_MODEL_API_KEY"):
        embedded.EmbeddedServer(host="0.0.0.0")


def test_it_listens_where_it_is_told() -> None:
    assert embedded.parameters(embedded.inference(), "::1", 1, embedded.Shape(), "key").hostnames == ["::1"]
