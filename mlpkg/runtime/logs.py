"""Log lines: Azure's format or one JSON object per line, each with the id of the request it belongs to."""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH113, PTH118, PTH123

from __future__ import annotations

import builtins
import json
import logging
import os
import sys
import time
import traceback
from typing import Any, TextIO

LOGGER = logging.getLogger("azmlinfsrv")
SCRIPT_LOGGER = logging.getLogger("azmlinfsrv.user_script")
SWAGGER_LOGGER = logging.getLogger("azmlinfsrv.swagger")
"""Azure's own logger names: log queries that people have keep working."""


class _Current:
    """The request that this worker is serving; one at a time, so threads of the script see it too."""

    request_id = ""


CURRENT = _Current()


class RootAccessFilter(logging.Filter):
    """Azure's filter, for a logging.json that names it: no line for a probe of ``/``."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        return "GET / HTTP/1.1" not in record.getMessage()


class AzureFormatter(logging.Formatter):
    """Azure's line (azure-contract §2, Logs), in UTC, with ``request_id=`` at the end of its first line."""

    def __init__(
        self,
        fmt: str = "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s",
        datefmt: str | None = None,
        style: Any = "%",
    ) -> None:
        super().__init__(fmt=fmt, datefmt=datefmt, style=style)
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, without a traceback."""
        first, line_end, rest = super().formatMessage(record).partition("\n")
        request_id = getattr(record, "request_id", CURRENT.request_id)
        return f"{first} request_id={request_id}{line_end}{rest}" if request_id else first + line_end + rest


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, pid, logger, message, request_id, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := getattr(record, "request_id", CURRENT.request_id):
            line["request_id"] = request_id
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line)


class LiveStream:
    """Whatever sys.stdout or sys.stderr is at the time: scripts and test tools replace them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, text: str) -> int:
        """Write text."""
        stream: TextIO | None = getattr(sys, self.name)
        return stream.write(text) if stream is not None else 0

    def flush(self) -> None:
        """Flush what is written."""
        stream: TextIO | None = getattr(sys, self.name)
        if stream is not None:
            stream.flush()


def configure(log_format: str, *folders: str) -> bool:
    """Set up the server's own loggers; a logging.json in one of the folders replaces this (Azure's rule).

    Return whether there was one. The root logger is `show_all`'s. Raises ValueError for a logging.json
    that cannot be used. It may name the formatter of Azure's server: `azureml.install` comes before.
    """
    for folder in folders:
        path = os.path.join(folder, "logging.json")
        if folder and os.path.isfile(path):
            _load(path)
            return True
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    LOGGER.handlers[:] = [_handler("stdout", log_format)]
    if log_format == "json":
        logging.lastResort = _handler("stderr", log_format)
        logging.lastResort.setLevel(logging.WARNING)
    return False


def _handler(stream: str, log_format: str) -> logging.Handler:
    handler = logging.StreamHandler(LiveStream(stream))
    handler.setFormatter(JsonFormatter() if log_format == "json" else AzureFormatter())
    return handler


def show_all(log_format: str) -> None:
    """Show what the script and its libraries log, from INFO on, in the server's format.

    A script's own `logging.basicConfig` with arguments still decides: it takes the place of this.
    """
    root, ours, plain = logging.getLogger(), _handler("stdout", log_format), logging.basicConfig
    if root.handlers:
        return
    root.setLevel(logging.INFO)
    root.addHandler(ours)

    def basic_config(**options: Any) -> None:
        if options and ours in root.handlers:
            root.removeHandler(ours)
            root.setLevel(logging.WARNING)  # what logging starts with
        plain(**options)

    logging.basicConfig = basic_config


def _load(path: str) -> None:
    import logging.config  # noqa: PLC0415 - few have such a file

    try:
        with open(path, encoding="utf-8") as file:
            logging.config.dictConfig(json.load(file))
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise ValueError(f"{path}: not a usable logging configuration: {error}") from error
    LOGGER.info("Loaded logging config from %s", path)


def redirect_print() -> None:
    """Make `print` to standard output a log line of ``azmlinfsrv.print``, as scripts' authors know it."""
    plain = builtins.print
    logger = logging.getLogger("azmlinfsrv.print")

    def print_to_log(
        *objects: object,
        sep: str | None = " ",
        end: str | None = "\n",
        file: Any = None,
        flush: bool = False,
    ) -> None:
        if file is None or file is sys.stdout:
            logger.info("%s", (" " if sep is None else sep).join(map(str, objects)))
        else:
            plain(*objects, sep=sep, end=end, file=file, flush=flush)

    builtins.print = print_to_log
