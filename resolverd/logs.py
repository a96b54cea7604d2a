"""Logging to standard error: short lines for people, one event a line."""

from __future__ import annotations

import logging
import sys

from resolverd.errors import one_line

LEVELS = ("debug", "info", "warning", "error")


class _OneLine(logging.Formatter):
    """Messages carry names from the cluster: whatever they hold, an event stays one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        record.message = one_line(record.message)
        return super().formatMessage(record)


def configure(level: str) -> None:
    """Send the program's log to standard error from ``level`` (one of LEVELS) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Log from ``level`` (one of LEVELS) on."""
    for name in ("resolverd", "resolverd_platform", "resolverd_tunnel"):
        logging.getLogger(name).setLevel(level.upper())
