"""Structured logs: one event, one line on stderr, as JSON or as text; Python's own logging underneath.

Nothing is configured at import: until `configure_logs` is called, Python's own rules hold. What other
libraries log comes out in the same form. A line that repeats too fast is counted instead of written, so that
a hot error cannot fill a disk.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, Unpack

from taxiway.core.clock import Clock, SystemClock
from taxiway.core.errors import ErrorKind, TaxiwayError
from taxiway.telemetry.log_fields import LogFields

LogFormat = Literal["json", "text"]
LineFormat = Literal["json", "text", "triton"]
LogLevel = Literal["debug", "info", "warning", "error"]

MAX_TEXT = 2000
"""Characters of one field; what is longer is cut."""
MAX_FRAMES = 20
ACCESS_LOGGER = "taxiway.access"
MODEL_LOGGER = "taxiway.models.output"
"""What models print. Its lines are alike only in their event; who reads them bounds them."""
_UNLIMITED = frozenset({ACCESS_LOGGER, MODEL_LOGGER})
"""Whose lines are asked for one by one, so none is held back for being like another."""
_OWN_FIELDS = "taxiway_fields"
_WORKER = "taxiway_worker"
_REPEAT_FIELDS = ("model", "version", "code")


class Log:
    """Tells events of one module. An event is a short snake_case name; what varies goes into the fields."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Unpack[LogFields]) -> None:
        """Of use to whoever hunts a defect."""
        self._tell(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Unpack[LogFields]) -> None:
        """Something that an operator wants to have happened."""
        self._tell(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Unpack[LogFields]) -> None:
        """Something that an operator should look at this week."""
        self._tell(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Unpack[LogFields]) -> None:
        """Something that is broken now."""
        self._tell(logging.ERROR, event, fields)

    def _tell(self, level: int, event: str, fields: LogFields) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={_OWN_FIELDS: fields}, stacklevel=3)


class RepeatLimit(logging.Filter):
    """Lets `burst` lines alike through in each window, counts the rest, and says how many with the next one.

    Alike means the same logger, level, event, type of error, model, version and code. Past `max_keys` kinds
    in a window all others share one place, so the whole is bounded too.
    """

    def __init__(self, clock: Clock, *, burst: int = 10, window_s: float = 10.0, max_keys: int = 256) -> None:
        super().__init__()
        self.suppressed = 0
        """Lines not written since the start."""
        self._clock = clock
        self._burst = burst
        self._window_ns = int(window_s * 1e9)
        self._max_keys = max_keys
        self._seen: dict[tuple[object, ...], list[int]] = {}
        """By kind of line: its window's start, lines let through in it, lines held back since the last."""
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it; sets `record.suppressed` to the lines held back before it."""
        if record.name in _UNLIMITED:
            return True
        fields = getattr(record, _OWN_FIELDS, {})
        event = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        error = type(fields.get("error")).__name__
        key = (record.name, record.levelno, event, error, *(str(fields.get(name)) for name in _REPEAT_FIELDS))
        now = self._clock.monotonic_ns()
        with self._lock:
            seen = self._place(key, now)
            if now - seen[0] >= self._window_ns:
                seen[0], seen[1] = now, 0
            if seen[1] >= self._burst:
                seen[2] += 1
                self.suppressed += 1
                return False
            seen[1] += 1
            record.suppressed, seen[2] = seen[2], 0
        return True

    def _place(self, key: tuple[object, ...], now: int) -> list[int]:
        if key not in self._seen and len(self._seen) >= self._max_keys:
            quiet = [old for old, seen in self._seen.items() if now - seen[0] >= self._window_ns and not seen[2]]
            for old in quiet:
                del self._seen[old]
            if not quiet:
                key = ()
        return self._seen.setdefault(key, [now, 0, 0])


def configure_logs(
    *,
    form: LogFormat = "json",
    level: LogLevel = "info",
    stream: TextIO | None = None,
    clock: Clock | None = None,
    limit: RepeatLimit | None = None,
    worker: int | None = None,
) -> RepeatLimit:
    """Write all logs of this process to `stream` (stderr), in place of what an earlier call set up.

    Where several processes write to one stream, each line has a field that names its `worker`.

    Returns:
        The limit in force, whose `suppressed` is a metric.
    """
    limit = limit or RepeatLimit(clock or SystemClock())
    handler = StructuredHandler(stream or sys.stderr, form, worker)
    handler.addFilter(limit)
    root = logging.getLogger()
    while (old := structured_handler()) is not None:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    return limit


class StructuredHandler(logging.StreamHandler[TextIO]):
    """Writes the lines. Told apart from handlers that others added: configuring twice replaces instead of doubling.

    Attributes:
        form: what it was configured to write.
        silenced: levels that are not written, though more severe or equal to the root logger's.
    """

    def __init__(self, stream: TextIO, form: LogFormat, worker: int | None) -> None:
        super().__init__(stream)
        self.form = form
        self._worker = worker
        self.silenced: frozenset[int] = frozenset()
        self.addFilter(self._is_wanted)
        self.write_as(form)

    def write_as(self, form: LineFormat) -> None:
        """Write lines in this form from now on."""
        self.setFormatter(_FORMATTERS[form]())

    def format(self, record: logging.LogRecord) -> str:
        """One line, which names its process."""
        record.taxiway_worker = self._worker
        return super().format(record)

    def _is_wanted(self, record: logging.LogRecord) -> bool:
        return record.levelno not in self.silenced


def structured_handler() -> StructuredHandler | None:
    """The handler that `configure_logs` set up in this process, if it did."""
    handlers = (handler for handler in logging.getLogger().handlers if isinstance(handler, StructuredHandler))
    return next(handlers, None)


class _JsonFormatter(logging.Formatter):
    """One JSON object, ASCII only, whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(describe_record(record), allow_nan=False)


class _TextFormatter(logging.Formatter):
    """`time LEVEL event key=value ...`; a value that could be misread is quoted as in JSON."""

    def format(self, record: logging.LogRecord) -> str:
        told = _for_people(describe_record(record))
        head = f"{told.pop('ts')} {told.pop('level').upper():<7} {told.pop('event')}"
        return " ".join([head, *(f"{name}={_plain(value)}" for name, value in told.items())])


class _TritonFormatter(logging.Formatter):
    """As Triton's own log: `I1125 22:16:12.452659 14815 taxiway.server:98] "ready models=2"`, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        told = _for_people(describe_record(record))
        at = datetime.fromtimestamp(record.created, UTC)
        fields = (f"{name}={_plain(value)}" for name, value in told.items() if name not in _IN_TRITON_HEAD)
        text = " ".join([told["event"], *fields])
        head = f"{record.levelname[0]}{at:%m%d %H:%M:%S.%f} {record.process} {record.name}:{record.lineno}"
        return f"{head}] {json.dumps(text)}"


_IN_TRITON_HEAD = frozenset({"ts", "level", "event", "logger"})
_FORMATTERS: dict[LineFormat, Callable[[], logging.Formatter]] = {
    "json": _JsonFormatter,
    "text": _TextFormatter,
    "triton": _TritonFormatter,
}


def _for_people(told: dict[str, Any]) -> dict[str, Any]:
    """An error as what happened and what to do, in place of its data; the frames of a defect at the end."""
    error = told.pop("error", None)
    if not isinstance(error, dict):
        return told
    told["error"] = error["message"] or error["type"]
    if "code" in error:
        told.setdefault("code", error["code"])
    else:
        told["type"] = error["type"]
    if "hint" in error:
        told.setdefault("hint", error["hint"])
    if error.get("cause", "").partition(": ")[2] not in told["error"]:
        told["cause"] = error["cause"]
    if "frames" in error:
        told["frames"] = error["frames"]
    return told


def _plain(value: object) -> str:
    if isinstance(value, str) and value.isascii() and value.isprintable() and value and not set(value) & set(' "=\\'):
        return value
    return json.dumps(value)


def describe_record(record: logging.LogRecord) -> dict[str, Any]:
    """A record as plain data, in the order in which it is written."""
    fields: Mapping[str, Any] | None = getattr(record, _OWN_FIELDS, None)
    at = datetime.fromtimestamp(record.created, UTC)
    told: dict[str, Any] = {
        "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": record.msg if fields is not None else "message",
        "logger": record.name,
    }
    if (worker := getattr(record, _WORKER, None)) is not None:
        told["worker"] = worker
    if fields is None:  # somebody else's: its text is all there is
        told["message"] = _clean(record.getMessage())
    else:
        told |= {name: _clean(value) for name, value in fields.items()}
    if record.exc_info and record.exc_info[1] is not None:
        told["error"] = describe_error(record.exc_info[1])
    if suppressed := getattr(record, "suppressed", 0):
        told["suppressed"] = suppressed
    return told


def _clean(value: object) -> Any:  # noqa: ANN401 - JSON
    """Numbers, truths and short texts pass; of the rest only the type is told: it might be a tensor."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}... ({len(value)} characters)"
    if isinstance(value, BaseException):
        return describe_error(value)
    return f"<{type(value).__name__}>"


def describe_error(error: BaseException) -> dict[str, Any]:
    """An exception as data. Facts are left out: they may hold values of the caller's."""
    told: dict[str, Any] = {"type": type(error).__name__, "message": _clean(str(error))}
    if isinstance(error, TaxiwayError):
        told |= {"kind": error.kind.value, "code": error.code}
        if error.hint:
            told["hint"] = _clean(error.hint)
    if not isinstance(error, TaxiwayError) or error.kind is ErrorKind.INTERNAL:
        frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
        told["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    if error.__cause__ is not None:
        told["cause"] = f"{type(error.__cause__).__name__}: {_clean(str(error.__cause__))}"
    return told
