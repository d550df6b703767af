"""Structured logs: one JSON line for each record, from every process and every library in it.

    configure(settings, role="worker", stream="stdout")
    log = structlog.get_logger(__name__)
    with bound(tenant="acme", task_id="m1.0", attempt=1):
        log.info("task.claimed", slots=3)

structlog, the standard library's logging, Python's warnings, uncaught exceptions and, except in
the command line, `print` and what is written to sys.stderr all end in one sink. On a terminal lines
are text for eyes, unless CHIMERA_LOG_FORMAT says otherwise; NO_COLOR takes the colours away.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, Protocol, TextIO

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, get_contextvars

from chimera.telemetry.record import LogRecord, entry, render
from chimera.telemetry.redaction import conceal_settings
from chimera.telemetry.terminal import Painter, coloured

NOISY = ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "urllib3", "asyncio")
"""Libraries that tell of each request at `info`: heard from `warning` on, unless we debug."""

RAYS_MARKS = (":actor_name:", ":job_id:", ":task_name:")
"""Ray prints these into the log of a worker, for a reader that we have not."""

bound = bound_contextvars
"""A context manager: its keyword arguments stand on every line written inside, in this task."""

bind = bind_contextvars
"""The same for the rest of the current task or thread."""


class LogSettings(Protocol):
    """The part of the settings that logs need."""

    @property
    def log_level(self) -> Literal["debug", "info", "warning", "error"]: ...
    @property
    def log_format(self) -> Literal["auto", "json", "console"]: ...


class Sink:
    """Where all lines of this process go. Lines are whole: threads do not mix theirs."""

    def __init__(self, stream: TextIO, role: str, console: bool) -> None:
        self.stream, self.role = stream, role
        self._lock = threading.Lock()
        self._paint = Painter(colour=coloured(stream)) if console else None

    def write(self, level: str, logger: str, values: dict[str, Any], *, exception: str = "") -> None:
        """Write one record; see `record.entry`."""
        line = entry(self.role, level, logger, values, exception=exception)
        text = render(line) if self._paint is None else self._paint(line)
        with self._lock:
            self.stream.write(text + "\n")
            self.stream.flush()


class Emitter:
    """What structlog calls with a finished event."""

    def __init__(self, sink: Sink, name: str) -> None:
        self.sink, self.name = sink, name

    def msg(self, level: str, values: dict[str, Any], exception: str) -> None:
        """Hand it to the sink."""
        self.sink.write(level, self.name, values, exception=exception)

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class Handler(logging.Handler):
    """The standard library's records, on their way to the sink."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self.sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises, as logging asks: a record that cannot be written is told on stderr."""
        try:
            event = "warning" if record.name == "py.warnings" else "log"
            values = {**get_contextvars(), "event": event, "message": record.getMessage().rstrip()}
            self.sink.write(
                record.levelname.lower(), record.name, values, exception=_formatted(record.exc_info)
            )
        except Exception:  # noqa: BLE001  (logging's own contract: an error in a handler goes to handleError)
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        """A call whose arguments do not fit its text is a record too; logging would write a raw traceback."""
        kind, value, _ = sys.exc_info()
        said = {"event": "log", "message": str(record.msg), "unformatted": repr(record.args)}
        where = f'  File "{record.pathname}", line {record.lineno}, in {record.funcName}'
        with suppress(OSError, ValueError):  # the stream itself is gone: there is nobody to tell
            self.sink.write(
                record.levelname.lower(),
                record.name,
                {**get_contextvars(), **said},
                exception=f"{where}\n{kind.__name__ if kind else 'Error'}: {value}",
            )


class PrintStream(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr: each line becomes a record of the task that wrote it.

    Args:
        name: which of the two; the records' `logger`.
        original: what it stands for.
    """

    def __init__(self, sink: Sink, name: str, original: TextIO) -> None:
        self.sink, self.original = sink, original
        self._name = name
        # By context, so that unfinished lines of two tasks are never joined.
        self._unfinished: ContextVar[str] = ContextVar("unfinished", default="")

    @property
    def encoding(self) -> str:  # type: ignore[override]  # (a property in its base)
        """As a text stream has it."""
        return "utf-8"

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str, /) -> int:
        """Take text; whole lines go on at once."""
        *lines, rest = (self._unfinished.get() + text).split("\n")
        self._unfinished.set(rest)
        for line in filter(None, lines):
            self._emit(line)
        return len(text)

    def flush(self) -> None:
        """Send an unfinished line on."""
        if rest := self._unfinished.get():
            self._unfinished.set("")
            self._emit(rest)

    def fileno(self) -> int:
        """Of what it stands for: a child process that is given it writes there, past this log."""
        return self.original.fileno()

    def _emit(self, line: str) -> None:
        if not line.startswith(RAYS_MARKS):
            self.sink.write("info", self._name, {**get_contextvars(), "event": "print", "message": line})


def configure(
    settings: LogSettings,
    *,
    role: str,
    stream: Literal["stderr", "stdout"] | TextIO = "stderr",
    capture_print: bool | None = None,
) -> None:
    """Send everything this process says to one stream. Calling it again replaces the last call.

    Args:
        role: what the process is; stands on every line.
        capture_print: make records of what is printed, and written to sys.stderr; by default in every role
            but `cli`, whose stdout is its answer.

    Every secret of the settings is redacted from now on.
    """
    conceal_settings(settings)
    target = stream if not isinstance(stream, str) else _original(stream)
    console = settings.log_format == "console" or (settings.log_format == "auto" and target.isatty())
    sink = Sink(target, role, console)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _finish],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: Emitter(sink, str(names[0]) if names else ""),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [Handler(sink)]
    root.setLevel(level)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)
    logging.captureWarnings(True)
    sys.excepthook = _on_crash(sink) if role == "cli" else partial(_write_crash, sink)
    threading.excepthook = lambda args: _write_crash(sink, args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _write_ignored(sink, args)
    if capture_print if capture_print is not None else role != "cli":
        sys.stdout = PrintStream(sink, "stdout", _original("stdout"))
        sys.stderr = PrintStream(sink, "stderr", _original("stderr"))


@dataclass(frozen=True)
class _Unset:
    """What holds before settings are known."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"


def begin(
    role: str, stream: Literal["stderr", "stdout"] = "stdout", *, capture_print: bool | None = None
) -> None:
    """As `configure`, while settings are not known yet: what fails before that is a record too."""
    configure(_Unset(), role=role, stream=stream, capture_print=capture_print)


def _original(name: Literal["stderr", "stdout"]) -> TextIO:
    """The stream itself, also when `configure` put a `PrintStream` in its place before."""
    stream: TextIO = getattr(sys, name)
    return stream.original if isinstance(stream, PrintStream) else stream


def _finish(
    _logger: Any, method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str, dict[str, Any], str], dict[str, Any]]:
    """structlog's last step: the arguments of `Emitter.msg`."""
    failure = event.pop("exc_info", method == "exception")
    event.pop("stack_info", None)
    return (method, dict(event), _formatted(failure)), {}


def _formatted(failure: Any) -> str:
    """A traceback as text, from what logging and structlog take as `exc_info`."""
    if not failure:
        return ""
    if isinstance(failure, BaseException):
        return "".join(traceback.format_exception(failure)).rstrip()
    kind, value, trace = failure if isinstance(failure, tuple) else sys.exc_info()
    return "".join(traceback.format_exception(kind, value, trace)).rstrip() if kind else ""


def _on_crash(sink: Sink) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return sys.__excepthook__(kind, value, trace)
        return _write_crash(sink, kind, value, trace)

    return hook


def _write_crash(
    sink: Sink, kind: type[BaseException], value: BaseException | None, trace: TracebackType | None
) -> None:
    values = {**get_contextvars(), "event": "crash", "message": f"{kind.__name__}: {value}"}
    sink.write("critical", "", values, exception="".join(traceback.format_exception(kind, value, trace)))


def _write_ignored(sink: Sink, args: sys.UnraisableHookArgs) -> None:
    """An exception that Python can hand to nobody, as one of a finalizer."""
    about = f"{args.err_msg or 'Exception ignored in'}: {args.object!r:.200}"
    values = {**get_contextvars(), "event": "ignored", "message": f"{about}: {args.exc_value}"}
    trace = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
    sink.write("error", "", values, exception="".join(trace).rstrip())


def schema_text() -> str:
    """The JSON Schema of a log line, as docs/log.schema.json has it."""
    schema = LogRecord.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def parse(lines: Iterable[str]) -> list[LogRecord]:
    """Validated records of a log's lines, for tools and tests.

    Raises:
        pydantic.ValidationError: a line is no record.
    """
    return [LogRecord.model_validate_json(line) for line in lines if line.strip()]


__all__ = [
    "LogRecord",
    "LogSettings",
    "PrintStream",
    "Sink",
    "begin",
    "bind",
    "bound",
    "configure",
    "parse",
    "schema_text",
]
