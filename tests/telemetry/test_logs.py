"""Every line that any part of a process writes is one record of the published schema."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import structlog

from chimera.settings import load
from chimera.telemetry import logs
from chimera.telemetry.record import entry, render

SCHEMA = Path(__file__).parents[2] / "docs/log.schema.json"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A configured process whose log is here; everything is put back afterwards."""
    out, hooks = (
        io.StringIO(),
        (sys.stdout, sys.excepthook, logging.getLogger().handlers[:], sys.unraisablehook, sys.stderr),
    )
    level = logging.getLogger().level
    logs.configure(load(log_format="json", log_level="debug"), role="worker", stream=out)
    yield out
    sys.stdout, sys.excepthook = hooks[0], hooks[1]
    logging.getLogger().handlers[:], sys.unraisablehook, sys.stderr = hooks[2:]
    logging.getLogger().setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def records(stream: io.StringIO) -> list[logs.LogRecord]:
    return logs.parse(stream.getvalue().splitlines())


def test_an_event_keeps_its_context_and_its_fields(stream: io.StringIO) -> None:
    with logs.bound(tenant="acme", mission_id="m1", task_id="m1.0", attempt=2, worker="w1"):
        structlog.get_logger("chimera.runtime.worker").info("task.claimed", slots=3)
    (record,) = records(stream)
    assert (record.event, record.level, record.logger) == ("task.claimed", "info", "chimera.runtime.worker")
    assert (record.tenant, record.task_id, record.attempt, record.worker) == ("acme", "m1.0", 2, "w1")
    assert record.fields == {"slots": 3}
    assert record.role == "worker"


def test_logging_warnings_and_print_become_records_of_the_current_task() -> None:
    code = (
        "import logging, warnings\nfrom chimera.settings import load\nfrom chimera.telemetry import logs\n"
        "logs.configure(load(), role='worker')\n"
        "with logs.bound(task_id='m1.3'):\n"
        "    logging.getLogger('some.library').warning('disk at %d %%', 93)\n"
        "    warnings.warn('old thing')\n"
        "    print('hello', 'there')\n"
    )
    library, warned, printed = _log_of(code)
    assert (library.event, library.message, library.level) == ("log", "disk at 93 %", "warning")
    assert warned.event == "warning"
    assert "old thing" in warned.message
    assert (printed.event, printed.message, printed.task_id) == ("print", "hello there", "m1.3")


async def test_unfinished_lines_of_two_tasks_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, stream = asyncio.Event(), io.StringIO()
    monkeypatch.setattr(
        sys, "stdout", logs.PrintStream(logs.Sink(stream, "worker", console=False), "stdout", sys.stdout)
    )

    async def first() -> None:
        print("one ", end="")  # noqa: T201 (as an agent would)
        turns.set()
        await asyncio.sleep(0)
        print("more")  # noqa: T201 (as an agent would)

    async def second() -> None:
        await turns.wait()
        print("two")  # noqa: T201 (as an agent would)

    await asyncio.gather(first(), second())
    assert sorted(record.message for record in records(stream)) == ["one more", "two"]


def test_what_is_written_to_stderr_and_a_log_call_that_does_not_fit_are_records_too() -> None:
    code = (
        "import logging, sys, traceback\nfrom chimera.telemetry import logs\n"
        "logs.begin('worker')\n"
        "with logs.bound(task_id='m1.4'):\n"
        "    try:\n        raise ValueError('told by hand')\n"
        "    except ValueError:\n        traceback.print_exc()\n"
        "    logging.getLogger('theirs').error('%d apples', 'many')\n"
    )
    found = _log_of(code)
    assert {record.task_id for record in found} == {"m1.4"}
    *told, unfit = found
    assert {record.logger for record in told} == {"stderr"}
    assert told[-1].message == "ValueError: told by hand"
    assert (unfit.message, unfit.fields) == ("%d apples", {"unformatted": "('many',)"})
    assert "TypeError" in unfit.exception


def test_what_fails_before_the_settings_are_known_is_a_record() -> None:
    code = "from chimera.telemetry import logs\nlogs.begin('worker')\nraise KeyboardInterrupt\n"
    (record,) = _log_of(code, expect=-signal.SIGINT)
    assert (record.event, record.level) == ("crash", "critical")


def test_whatever_is_logged_fails_nobody(stream: io.StringIO) -> None:
    ring: list[object] = []
    ring.append(ring)
    log = structlog.get_logger("m")
    log.info("large", number=2**70)
    log.info("half", text="\udc80")
    log.info("ring", ring=ring)
    assert [record.event for record in records(stream)] == ["large", "half", "ring"]


def test_an_exception_is_told_with_its_traceback(stream: io.StringIO) -> None:
    log = structlog.get_logger("m")
    try:
        raise ValueError("the cause")
    except ValueError:
        log.exception("agent.raised")
        log.warning("again", exc_info=True)
    assert all("ValueError: the cause" in record.exception for record in records(stream))
    assert [record.level for record in records(stream)] == ["error", "warning"]


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("chi_abcdefghijklmnopqrstuvwxyz0123456789ABCDE", "key {} was used"),
        ("hunter2secret", "redis://user:{}@host:6379/0"),
        ("hunter2secret", "redis://:{}@host:6379/0"),
        ("eyJhbGciOi.JIUzI1.NiJ9", "Authorization: Bearer {}"),
    ],
)
def test_secrets_never_reach_the_log(stream: io.StringIO, secret: str, text: str) -> None:
    log = structlog.get_logger("m")
    log.info("said", message=text.format(secret), field=text.format(secret))
    logging.getLogger("x").error(text.format(secret))
    try:
        raise RuntimeError(text.format(secret))
    except RuntimeError:
        log.exception("failed")
    assert secret not in stream.getvalue()
    assert len(records(stream)) == 3


def test_a_field_named_like_a_secret_is_hidden(stream: io.StringIO) -> None:
    structlog.get_logger("m").info("opened", redis_password='a"b\\c', token=17)
    assert records(stream)[0].fields == {"redis_password": "***", "token": 17}


def test_lines_under_the_level_are_not_written() -> None:
    code = (
        "import logging, structlog\nfrom chimera.settings import load\nfrom chimera.telemetry import logs\n"
        "logs.configure(load(log_level='warning'), role='judge')\n"
        "structlog.get_logger('a').info('no')\nlogging.getLogger('b').info('no')\n"
        "structlog.get_logger('a').warning('yes')\n"
    )
    assert [record.event for record in _log_of(code)] == ["yes"]


def test_what_a_finalizer_raises_is_a_record_too() -> None:
    code = (
        "from chimera.settings import load\nfrom chimera.telemetry import logs\n"
        "logs.configure(load(), role='worker')\n"
        "class Kept:\n    def __del__(self):\n        raise ValueError('not closed')\n"
        "Kept()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (record,) = logs.parse(done.stderr.splitlines())
    assert (record.event, record.level) == ("ignored", "error")
    assert "not closed" in record.message
    assert "ValueError" in record.exception


def test_a_crash_is_the_last_record_and_the_process_fails() -> None:
    code = (
        "import threading\nfrom chimera.settings import load\nfrom chimera.telemetry import logs\n"
        "logs.configure(load(), role='governor', stream='stdout')\n"
        "def burst():\n    raise KeyError('in a thread')\n"
        "thread = threading.Thread(target=burst)\nthread.start()\nthread.join()\n"
        "raise LookupError('in the main thread')\n"
    )
    thread, main = _log_of(code, expect=1)
    assert (thread.event, main.event, main.level) == ("crash", "crash", "critical")
    assert "in a thread" in thread.message
    assert "LookupError" in main.exception


def test_the_command_line_keeps_its_stdout() -> None:
    code = (
        "from chimera.settings import load\nfrom chimera.telemetry import logs\n"
        "logs.configure(load(), role='cli')\nprint('{\"an\": \"answer\"}')\n"
    )
    done = _run(code)
    assert json.loads(done.stdout) == {"an": "answer"}


def test_a_terminal_gets_text_for_eyes() -> None:
    out = io.StringIO()
    sink = logs.Sink(out, "worker", console=True)
    sink.write("info", "m", {"event": "task.claimed", "task_id": "m1.0", "slots": 2})
    assert "task.claimed" in out.getvalue()
    assert "m1.0" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_a_traceback_stands_beneath_its_line_and_secrets_in_neither() -> None:
    out = io.StringIO()
    sink = logs.Sink(out, "worker", console=True)
    sink.write(
        "error",
        "m",
        {
            "event": "attempt.failed",
            "tenant": "acme",
            "task_id": "m1.0",
            "attempt": 2,
            "key": "chi_" + "s" * 20,
        },
        exception="Traceback (most recent call last):\nValueError: no",
    )
    first, *beneath = out.getvalue().splitlines()
    assert first.split()[1:] == ["error", "worker", "attempt.failed", "key=chi_***", "acme", "m1.0", "#2"]
    assert beneath == ["    Traceback (most recent call last):", "    ValueError: no"]


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_and_no_color_takes_them_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = {}
    for name, out in (("terminal", Terminal()), ("file", io.StringIO())):
        logs.Sink(out, "cli", console=True).write("info", "m", {"event": "print", "message": "said"})
        shown[name] = out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    logs.Sink(plain, "cli", console=True).write("info", "m", {"event": "print", "message": "said"})
    assert "\x1b[" in shown["terminal"]
    assert "\x1b" not in shown["file"] + plain.getvalue()
    assert all("said" in text for text in (*shown.values(), plain.getvalue()))


def test_a_long_value_is_cut_short_for_eyes_alone() -> None:
    out, whole = io.StringIO(), io.StringIO()
    for stream, console in ((out, True), (whole, False)):
        logs.Sink(stream, "worker", console=console).write("info", "m", {"event": "x", "text": "y" * 5_000})
    assert len(out.getvalue()) < 300
    assert "…" in out.getvalue()
    assert json.loads(whole.getvalue())["fields"]["text"] == "y" * 5_000


def test_the_published_schema_is_the_record() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == logs.schema_text(), "write logs.schema_text() to it"
    line = render(entry("worker", "warn", "m", {"event": "x", "attempt": 1, "path": Path("/tmp")}))
    jsonschema.validate(json.loads(line), json.loads(SCHEMA.read_text(encoding="utf-8")))


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


def _log_of(code: str, expect: int = 0) -> list[logs.LogRecord]:
    done = _run(code)
    assert done.returncode == expect, done.stderr
    return logs.parse((done.stdout + done.stderr).splitlines())


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_libraries_that_tell_of_each_request_are_not_heard(library: str) -> None:
    out, level, handlers = io.StringIO(), logging.getLogger().level, logging.getLogger().handlers[:]
    try:
        logs.configure(load(log_format="json", log_level="info"), role="cli", stream=out)
        logging.getLogger(library).info("HTTP Request: POST http://127.0.0.1/v1")
        assert out.getvalue() == ""
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        logging.captureWarnings(False)
        structlog.reset_defaults()
