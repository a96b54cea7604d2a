"""Logging to standard error: short lines for people, one event a line; to the journal with fields."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from resolverd.errors import one_line
from resolverd.journald import SOCKET, JournalHandler, priority

LEVELS = ("debug", "info", "warning", "error")


class _OneLine(logging.Formatter):
    """Messages carry names from the cluster: whatever they hold, an event stays one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        record.message = one_line(record.message)
        return super().formatMessage(record)


class _ForJournal(_OneLine):
    """Lines with the prefix of sd-daemon(3); the journal has the time by itself."""

    def format(self, record: logging.LogRecord) -> str:
        number = priority(record.levelno)
        # A traceback's lines, too: without the prefix the journal would take them for something less.
        return "\n".join(f"<{number}>{line}" for line in super().format(record).splitlines())


def goes_to_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether ``stream`` is the journal's: ``$JOURNAL_STREAM`` names its device and inode (systemd.exec(5))."""
    try:
        facts = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no descriptor at all
        return False
    return environment.get("JOURNAL_STREAM", "") == f"{facts.st_dev}:{facts.st_ino}"


def configure(level: str, process: str = "daemon", journal: str = SOCKET) -> None:
    """Send the program's log to standard error, or to the journal behind it, from ``level`` (one of LEVELS) on."""
    root = logging.getLogger()
    root.handlers[:] = [_handler(process, journal)]
    root.setLevel(logging.WARNING)
    set_level(level)


def _handler(process: str, journal: str) -> logging.Handler:
    plain = logging.StreamHandler(sys.stderr)
    if not goes_to_journal(sys.stderr):
        plain.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
        return plain
    plain.setFormatter(_ForJournal("%(name)s: %(message)s"))
    try:
        native = JournalHandler(process, plain, journal)
    except OSError:  # a journal that only reads its services' output
        return plain
    native.setFormatter(_OneLine("%(name)s: %(message)s"))
    return native


def set_level(level: str) -> None:
    """Log from ``level`` (one of LEVELS) on."""
    for name in ("resolverd", "resolverd_platform", "resolverd_tunnel"):
        logging.getLogger(name).setLevel(level.upper())
