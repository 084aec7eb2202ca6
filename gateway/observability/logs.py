"""Logs: one JSON object a line, stable event names, ids only.

What may be logged is a list of field names, not a hunt for what looks personal: any other field is dropped and named
in `dropped_fields`.  Values are numbers, ids and short codes; free text is dropped too.  Of an exception only its
class, its code and its place in our code are written, never its text: a database error quotes rows, a client error
quotes URLs.  What libraries log comes out the same way, without their messages; what they repeat, once in a while.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, FilteringBoundLogger

# fmt: off
FIELDS: Final = frozenset({
    # who and what, by id or name
    "adapter", "attempt", "channel", "component", "group", "internal_port", "lane", "lender", "mode", "number",
    "offset", "partition", "provider", "public_port", "receipt", "reminder", "role", "round", "source", "stage",
    "stored", "template", "topic", "version", "worker",
    # of the configuration: the path of a key in the file, or the id of a sealing key
    "key", "keys",
    # how it stands, by a code of a closed set
    "code", "disposition", "failure", "late", "outcome", "reason", "rejection", "scope", "signal", "state", "status",
    "why",
    # how many and how long
    "n", "records", "seconds", "size", "tries", "unknown", "wait",
    # what went wrong
    "at", "causes", "error", "error_code", "sqlstate",
})
# fmt: on

_EVENT: Final = re.compile(r"[a-z]+(?:[._][a-z]+)*")
_FIELD: Final = re.compile(r"[a-z][a-z_]{0,39}")
_VALUE: Final = re.compile(r"(?!.*://)[A-Za-z0-9_.:/@ -]{0,128}")
_SQLSTATE: Final = re.compile(r"[0-9A-Z]{5}")
_BREAK: Final = re.compile(r"[\r\n]+")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_OURS: Final = ("gateway", "providers", "schemas")
_LONGEST_TEMPLATE: Final = 200
_MOST: Final = 20
# aiokafka keeps its values in the arguments of a message, so its templates are constants of its source.
_TEMPLATES_ARE_CONSTANT: Final = frozenset({"aiokafka"})

# A Kafka client that finds no broker says the same three things twenty times a second, each of our clients, for as long
# as it lasts.
_SAME_SECONDS: Final = 10.0
_SAME_KEPT: Final = 1000  # places of programs: there are not so many

_SCALAR: Final = (bool, int, float, type(None))


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a module.  It may be made before `setup`, which it follows from then on."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


def setup(level: str = "info", stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
    """From now on our loggers and the libraries' write to `stream` (stdout): ours from `level`, theirs from warning.

    What a library repeats is written again after ten seconds of `clock`; `n` says how often it was said meanwhile.
    Logging never raises: a full disk or a closed pipe must not stop a send.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            _name_exception,
            _keep_fields,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda name="": _Sink(name, stream or sys.stdout),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler(clock)]
    root.setLevel(logging.INFO if level == "debug" else logging.WARNING)


class _Sink:
    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self._stream = stream

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


class _Constant(str):
    """A text out of a program's source, which therefore holds no value."""

    __slots__ = ()


class _LibraryHandler(logging.Handler):
    """A library's record through our chain; its text is withheld unless it is a constant.

    The same record, by its place in the library and by its exception's class and place in ours, is not written twice
    within `_SAME_SECONDS`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[Any, ...], tuple[float, int]] = {}  # when it was written, how often said since

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            level = logging.INFO  # whoever calls us may write what he likes: nobody has to get up for that
        extra: dict[str, Any] = {}
        if record.name.partition(".")[0] in _TEMPLATES_ARE_CONSTANT and isinstance(record.msg, str):
            extra["message"] = _Constant(record.msg)
        place = _place(error) if error is not None else None
        same = (record.name, level, record.pathname, record.lineno, type(error), place)
        now = self._clock()
        if same in self._said:
            written, meanwhile = self._said[same]
            if now - written < _SAME_SECONDS:
                self._said[same] = (written, meanwhile + 1)
                return
            if meanwhile:
                extra["n"] = meanwhile
        elif len(self._said) >= _SAME_KEPT:
            self._said.clear()
        self._said[same] = (now, 0)
        get_logger(record.name).log(level, "library", exc_info=record.exc_info, **extra)


def _name_exception(_sink: _Sink, _method: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event.update(told_of(error))
    return event


def told_of(error: BaseException) -> dict[str, Any]:
    """What may be told of an exception: its class, codes, causes, and its place in our code; never its text."""
    told: dict[str, Any] = {"error": type(error).__name__}
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str) and _SQLSTATE.fullmatch(sqlstate):
        told["sqlstate"] = sqlstate
    codes = (getattr(error, name, None) for name in ("errno", "status"))
    code = next((code for code in codes if isinstance(code, int)), None)
    if code is not None:
        told["error_code"] = int(code)
    if causes := [type(cause).__name__ for cause in _causes(error)]:
        told["causes"] = causes
    if place := _place(error):
        told["at"] = place
    return told


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What led to it, nearest first; of a group its members."""
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions[:_MOST]
    seen = {id(error)}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while cause is not None and id(cause) not in seen and len(seen) < _MOST:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _place(error: BaseException) -> str | None:
    """Module and line of our innermost frame."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] in _OURS:
            found = f"{module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _keep_fields(sink: _Sink, _method: str, event: EventDict) -> EventDict:
    name = event.pop("event", "")
    kept: EventDict = {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "event": name}
    kept["logger"] = _UNPRINTABLE.sub(" ", sink.name)
    dropped: set[str] = set()
    if not (isinstance(name, str) and _EVENT.fullmatch(name)):
        kept["event"] = "unnamed"
        dropped.add("event")
    for field, value in event.items():
        if isinstance(value, _Constant):
            kept[field] = _UNPRINTABLE.sub(" ", value)[:_LONGEST_TEMPLATE]
        elif field in FIELDS and (shown := _shown(value)) is not _UNFIT:
            kept[field] = shown
        else:
            # Even a name may have been made of a value.
            dropped.add(field if _FIELD.fullmatch(field) else "?")
    if dropped:
        kept["dropped_fields"] = sorted(dropped)
    return kept


_UNFIT: Final = object()


def _shown(value: Any) -> Any:
    """The value as it may stand in a log, or _UNFIT."""
    if isinstance(value, str):
        text = _BREAK.sub(" ", str(value))
        return text if _VALUE.fullmatch(text) else _UNFIT
    if isinstance(value, float) and not -1e300 < value < 1e300:
        return str(value)  # JSON has no infinity
    if isinstance(value, _SCALAR):
        return value
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, list | tuple | set | frozenset):
        items = [_shown(item) for item in list(value)[:_MOST]]
        return items if all(item is not _UNFIT and not isinstance(item, list) for item in items) else _UNFIT
    return _UNFIT
