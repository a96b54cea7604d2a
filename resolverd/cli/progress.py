"""Steps of something long, each with its time, on standard error."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

GREEN, RED, DIM, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def coloured(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal whose user has nothing against colour (no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class Steps:
    """Prints a line when a step is done; on a terminal also what is waited for, until it is done."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._colour = coloured(self._stream)
        self._began = time.monotonic()

    def waiting(self, text: str) -> None:
        """Say what is waited for; overwritten by the step's end, and not shown where it cannot be."""
        if self._stream.isatty():
            self._write(f"\r\x1b[K{self._paint(DIM, '  ' + text + ' …')}")

    def done(self, text: str) -> None:
        took = time.monotonic() - self._began
        self._write(f"{self._clear()}{self._paint(GREEN, '✓')} {text} {self._paint(DIM, f'{took:.1f} s')}\n")

    def failed(self, text: str) -> None:
        self._write(f"{self._clear()}{self._paint(RED, '✗')} {text}\n")

    def forget(self) -> None:
        """Take back what was said to be waited for."""
        self._write(self._clear())

    def _clear(self) -> str:
        return "\r\x1b[K" if self._stream.isatty() else ""

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colour else text

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
