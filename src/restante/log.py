"""The structured log: an event's name and its fields, as text for people or as JSON lines for programs.

``log = logger(__name__)``, then ``log.info("delivered", message_id=7, ms=3)``. Bodies, subjects, passwords and
tokens are never fields; the names in ``HIDDEN`` are blanked should one slip in. Control characters are escaped,
long values cut.
"""

import contextlib
import functools
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

import msgspec

HIDDEN = frozenset(
    {"authorization", "body", "credential", "cookie", "html", "password", "raw", "secret", "subject", "token"}
)
MAX_VALUE = 1000  # characters

_context: ContextVar[dict[str, object] | None] = ContextVar("log_context", default=None)

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Logger:
    """A named source of events; fields are plain values."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """For those who look for an error."""
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Something an operator may want to read."""
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something an operator should read."""
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something an operator should act on."""
        self._emit(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """As ``error``, with the traceback of the exception being handled."""
        self._emit(logging.ERROR, event, fields, traceback=True)

    def is_enabled(self, level: str) -> bool:
        """Whether events of ``level`` are shown at all."""
        return self._logger.isEnabledFor(_LEVELS[level])

    def _emit(self, level: int, event: str, fields: dict[str, object], *, traceback: bool = False) -> None:
        if not self._logger.isEnabledFor(level):
            return
        context = _context.get()
        merged = {**context, **fields} if context else fields
        handler = _only_handler()
        if handler is None or traceback:
            self._logger.log(level, event, extra={"fields": merged}, exc_info=traceback, stacklevel=3)
        else:
            handler.handle(_Record(level, self._logger.name, event, merged))


class _Record(logging.LogRecord):
    """A record with nothing in it but what our formatters read: logging's own costs as much as the rest of a line."""

    def __init__(self, level: int, name: str, event: str, fields: dict[str, object]) -> None:
        self.created = time.time()
        self.levelno, self.name, self.msg, self.fields = level, name, event, fields
        self.args = self.exc_info = None


def logger(name: str) -> Logger:
    """The log of a module: ``log = logger(__name__)``."""
    return Logger(name)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add ``fields`` (``connection=...``, ``request=...``) to every event of this task inside the block."""
    mark = _context.set({**(_context.get() or {}), **fields})
    try:
        yield
    finally:
        _context.reset(mark)


def bind(**fields: object) -> None:
    """As ``bound``, until the current task ends."""
    _context.set({**(_context.get() or {}), **fields})


def trace() -> dict[str, object]:
    """The fields that are bound here, for work handed to another task."""
    return dict(_context.get() or {})


class _Handler(logging.StreamHandler[TextIO]):
    """Where ``configure`` sends the log; a full disk or a closed pipe under it is nobody's business."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self.stream.write(f"{self.format(record)}\n")
            self.stream.flush()


def _only_handler() -> _Handler | None:
    """Our handler when every event of ours goes there and nowhere else (tests listen too)."""
    handlers = logging.root.handlers
    return handlers[0] if len(handlers) == 1 and isinstance(handlers[0], _Handler) else None


def configure(format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:  # noqa: A002 - the setting's name
    """Send every log of this process to ``stream`` (standard error); replaces what was configured here before."""
    stream = stream or sys.stderr
    as_text = format == "text" or (format == "auto" and stream.isatty())
    handler = _Handler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging._srcfile = None  # the caller's place in the code: costs more than the rest
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # nobody reads them, each costs
    root.setLevel(logging.WARNING)  # other people's libraries
    logging.getLogger("restante").setLevel(_LEVELS[level])


def escape(text: str) -> str:
    """``text`` in one line that no terminal takes for a command: control and unprintable characters escaped, cut."""
    if len(text) > MAX_VALUE:
        text = text[:MAX_VALUE] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _value(name: str, value: object) -> object:
    if name in HIDDEN:
        return "[hidden]"
    if type(value) is str:  # most are
        return escape(value)
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, bytes):
        value = value[: MAX_VALUE + 1].decode("latin-1")
    return escape(str(value))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = getattr(record, "fields", {})
    return found


_NAMES = {number: name for name, number in _LEVELS.items()} | {logging.CRITICAL: "critical"}


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno) or record.levelname.lower()


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, source, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = int(record.created)
        line: dict[str, object] = {
            "time": f"{_second(seconds)}.{int((record.created - seconds) * 1000):03d}Z",
            "level": _level(record),
            "source": record.name,
            "event": escape(record.getMessage()),
        }
        for name, value in _fields(record).items():
            line[name if name not in line else f"{name}_"] = _value(name, value)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """``12:00:01.250 info  smtp.session  delivered  message_id=7 ms=3``"""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).astimezone()
        parts = [
            f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}",
            f"{_level(record):7}",
            escape(record.getMessage()),
        ]
        parts += [f"{name}={_quoted(_value(name, value))}" for name, value in _fields(record).items()]
        line = " ".join(parts)
        if record.exc_info:
            line += "".join(f"\n{escape(one)}" for one in self.formatException(record.exc_info).splitlines())
        return line


def _quoted(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text or not text else text
