"""Logs: one JSON object a line, a constant sentence plus keys.

`log.info("pod evicted", extra={"pod": key, "node": node})` becomes
`{"time":…,"level":"info","component":"control","logger":…,"message":"pod evicted","pod":…,"node":…}`.
A file is rotated by size, so that a machine left alone never fills its disk with our logs.
"""

import datetime as dt
import logging
import logging.handlers
import sys
from pathlib import Path

import orjson

from machinery.kit.logcontext import ContextFilter

FILE_BYTES_MAX = 10 * 1024 * 1024
FILES_MAX = 5

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON. Keys given in `extra` never overwrite ours: they get a trailing underscore."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, object] = {
            "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "component": self._component,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in vars(record).items():
            if key not in _STANDARD:
                line[f"{key}_" if key in line else key] = value
        if record.exc_info:
            line["error" if "error" not in line else "traceback"] = self.formatException(
                record.exc_info
            )
        return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def setup(component: str, level: str = "info", path: str | None = None) -> None:
    """Send all logs to `path` (rotated, 5 files of 10 MiB) or, without one, to standard error."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r}: use debug, info, warning or error")
    handler: logging.Handler
    if path is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_MAX - 1, encoding="utf-8"
        )
    handler.setFormatter(JsonFormatter(component))
    handler.addFilter(ContextFilter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, JsonFormatter):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(number)
