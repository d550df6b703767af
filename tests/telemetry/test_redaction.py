"""Secrets leave no text that others read, however they are written."""

from __future__ import annotations

import io
import json
import logging

import pytest
from pydantic import SecretStr

from chimera.settings import load
from chimera.telemetry import redaction
from chimera.telemetry.logs import configure
from chimera.telemetry.redaction import Known, conceal, conceal_settings, redact


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", Known())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the key chi_abcdefgh12345678 was", "the key chi_*** was"),
        ("Incorrect API key provided: sk-proj-abcdefghijklmnop1234", "Incorrect API key provided: sk-***"),
        ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "AIza***"),
        ("at redis://user:pa55word@host:6379/0", "at redis://user:***@host:6379/0"),
        ("from https://token123@github.com/x", "from https://***@github.com/x"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer ***"),
        ("authorization: basic dXNlcjpwYXNz", "authorization: basic ***"),
        ("{'x-api-key': 'abc123', 'n': 1}", "{'x-api-key': '***', 'n': 1}"),
        ('{"db_password": "p\\"w", "n": 1}', '{"db_password": "***", "n": 1}'),
        (r'{"m": "{\"api_key\": \"abc\", \"n\": 1}"}', r'{"m": "{\"api_key\": \"***\", \"n\": 1}"}'),
        ("http://127.0.0.1:8000/v1 is well, and so is a@b.c", None),
        ("the basic idea of task-by-task work; risk-taking-is-not-a-secret", None),
    ],
)
def test_what_looks_like_a_secret_is_found_by_its_shape(text: str, expected: str | None) -> None:
    assert redact(text) == (text if expected is None else expected)


def test_what_is_known_is_found_wherever_it_stands() -> None:
    secret = 'pa"ss/wörd 1'
    conceal(secret, "short")
    for text in (secret, json.dumps({"m": secret}), "redis://x?p=pa%22ss%2Fw%C3%B6rd%201"):
        assert redact(f"it is {text}!").count("***") == 1
    assert redact("a short word") == "a short word", "too short to be told from any other word"


def test_every_secret_of_the_settings_is_known_and_no_address_is() -> None:
    settings = load(
        redis_url="redis://u:p%40ssword1@127.0.0.1:6379/0",
        api_key="a-key-of-no-shape",
        model_api_key="another-of-no-shape",
    )
    conceal_settings(settings)
    assert redact("p%40ssword1 p@ssword1 a-key-of-no-shape another-of-no-shape") == "*** *** *** ***"
    conceal_settings(load(redis_url="redis://127.0.0.1:6379/0"))
    assert redact("it is at redis://127.0.0.1:6379/0") == "it is at redis://127.0.0.1:6379/0"


def test_tracebacks_and_other_libraries_lines_are_written_without_them() -> None:
    out, settings = io.StringIO(), load(api_key="a-key-of-no-shape", log_format="json")
    root, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure(settings, role="test", stream=out, capture_print=False)
        try:
            raise ValueError(f"not {SecretStr('a-key-of-no-shape').get_secret_value()}")
        except ValueError:
            logging.getLogger("theirs").exception("it was a-key-of-no-shape")
    finally:
        logging.getLogger().handlers[:] = root
        logging.getLogger().setLevel(level)
    assert "it was ***" in out.getvalue()
    assert "ValueError: not ***" in out.getvalue()
    assert "a-key" not in out.getvalue()
